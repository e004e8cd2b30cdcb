"""Which places callers may have us call: none inside, however it is spelled and whatever its name resolves to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from penstock.errors import AddressRefused

LONGEST = 2000
"""Characters of an address."""

_VISIBLE = re.compile(r"[!-\[\]-~]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")

_INSIDE = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # "this" network, the unspecified address
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform
        "169.254.0.0/16",  # link-local; the metadata of AWS and most others
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "3fff::/20",
    )
]
_OUTSIDE = ip_network("2000::/3")
"""All of IPv6 that is routed between networks; loopback, private, link-local, multicast and the rest lie outside."""
_NAT64 = ip_network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

Address = IPv4Address | IPv6Address


class Guard:
    """Admits public addresses by https, and what is in ``allow_networks``; ``allow_http`` admits http as well."""

    def __init__(self, allow_networks: Sequence[str] = (), *, allow_http: bool = False) -> None:
        self._allowed: list[IPv4Network | IPv6Network] = [ip_network(network) for network in allow_networks]
        self._schemes = ("https", "http") if allow_http else ("https",)

    def check(self, url: str) -> None:
        """Raise ``ValueError``, with words for whoever wrote the address, if it is none that may be called.

        A name is looked up only when it is called: what it says now, it need not say then.
        """
        if len(url) > LONGEST or not _VISIBLE.fullmatch(url):
            raise ValueError(f"must have at most {LONGEST} visible ASCII characters, without backslashes")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError("is not an address such as https://example.com/hook") from None
        if parts.scheme not in self._schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in self._schemes)}")
        if parts.username is not None or parts.password is not None or "#" in url:
            raise ValueError("must have no user name, password or fragment")
        if port == 0:
            raise ValueError("must have a port from 1 to 65535")
        address = _literal(host)
        if address is not None and not self._admits(address):
            raise ValueError("must not lead to a private, local or reserved address")

    def admit(self, addresses: Iterable[str], where: str) -> None:
        """Raise ``AddressRefused`` unless each of a host's addresses may be called."""
        for address in addresses:
            if not self._admits(ip_address(address)):
                raise AddressRefused("has an address that is not allowed", where=f"{where} ({address})")

    def _admits(self, address: Address) -> bool:
        return all(_is_public(face) or any(face in network for network in self._allowed) for face in _faces(address))


def _literal(host: str) -> Address | None:
    """The address that a host is written as, or ``None`` for a name. Raises ``ValueError`` for every odd spelling."""
    if ":" in host:
        try:
            return IPv6Address(host if "%" not in host else "")
        except ValueError:
            raise ValueError("must have an IPv6 address as host, without a zone") from None
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # resolvers take 127.1, 0x7f.1 and 2130706433 for addresses
        try:
            return IPv4Address(host)
        except ValueError:
            raise ValueError("must have a name as host, or an IPv4 address such as 192.0.2.1") from None
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("must have a name as host: letters, digits, hyphens and dots (IDNA as xn--…)")
    return None


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _OUTSIDE:
        return False
    return not any(address in network for network in _INSIDE)


def _faces(address: Address) -> list[Address]:
    """The address, and the IPv4 addresses that it is translated to or tunnelled to on its way."""
    if isinstance(address, IPv4Address):
        return [address]
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64 or address.ipv4_mapped:
        return [last]
    faces: list[Address] = [address]
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        faces.append(last)
    if address.sixtofour:
        faces.append(address.sixtofour)
    return faces
