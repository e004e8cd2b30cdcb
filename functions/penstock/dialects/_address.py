"""Where a request comes from, and what that address may do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from penstock.core.json import parse

if TYPE_CHECKING:
    from penstock.dialects._exchange import Exchange

ADAPTER_DOOR = "stream_api"


def caller_address(exchange: Exchange) -> str:
    """The caller's address, or ``""`` where nobody who can be believed tells it.

    It is the peer's; where the peer is a declared proxy, the last address of ``X-Forwarded-For`` that is none. Behind
    the Lambda Web Adapter the peer is the adapter itself, and API Gateway's request context, in the header
    ``x-amzn-request-context``, names the caller. Everywhere else those headers are any client's word and are not read.
    """
    if exchange.house.settings.door == ADAPTER_DOOR:
        return _from_adapter(exchange)
    client = exchange.scope.get("client")
    address = str(client[0]) if client else ""
    proxies = exchange.house.settings.document.server.trusted_proxies
    if not proxies or not is_within(address, proxies):
        return address
    for hop in reversed(",".join(exchange.headers(b"x-forwarded-for")).split(",")):
        address = _without_port(hop.strip())
        if not is_within(address, proxies):
            break
    return address


def _without_port(hop: str) -> str:
    """Some proxies name the port as well: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def is_trusted(exchange: Exchange) -> bool:
    """Whether the caller's address is of a trusted network, and nothing says that somebody else stands behind it.

    A page that a person inside happens to open can send requests too: browsers mark those with ``Origin`` or
    ``Sec-Fetch-Site``. A proxy that was not declared shows by the header that it adds.
    """
    if _is_forwarded(exchange):
        return False
    if exchange.header(b"origin") is not None or exchange.header(b"sec-fetch-site") not in (None, "none"):
        return False
    return is_within(caller_address(exchange), exchange.house.settings.document.auth.trusted_networks)


def _is_forwarded(exchange: Exchange) -> bool:
    """Whether a proxy that nobody declared has passed the request on, or somebody pretends so."""
    if not any(exchange.header(name) is not None for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip")):
        return False
    settings, client = exchange.house.settings, exchange.scope.get("client")
    return not settings.door and not is_within(
        str(client[0]) if client else "", settings.document.server.trusted_proxies
    )


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Whether an address is of one of the networks; what is no address is of none."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in _networks(tuple(networks)))


@lru_cache
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))


def _from_adapter(exchange: Exchange) -> str:
    try:
        context = parse(exchange.header(b"x-amzn-request-context") or "")
        return str(context["identity"]["sourceIp"])
    except (ValueError, KeyError, TypeError):
        return ""
