"""Where a request comes from."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from penstock.core.json import parse

if TYPE_CHECKING:
    from penstock.dialects._exchange import Exchange

ADAPTER_DOOR = "stream_api"
INSIDE = tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


def caller_address(exchange: Exchange) -> str:
    """The caller's address, or ``""`` where nobody who can be believed tells it.

    Behind the Lambda Web Adapter the peer is the adapter itself, and API Gateway's request context, in the header
    ``x-amzn-request-context``, names the caller. Everywhere else that header is any client's word and is not read.
    """
    if exchange.house.settings.door != ADAPTER_DOOR:
        client = exchange.scope.get("client")
        return str(client[0]) if client else ""
    try:
        context = parse(exchange.header(b"x-amzn-request-context") or "")
        return str(context["identity"]["sourceIp"])
    except (ValueError, KeyError, TypeError):
        return ""


def is_inside(address: str) -> bool:
    """Whether an address is loopback or private (RFC 1918, RFC 4193), and so trusted with what health tells."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in INSIDE)
