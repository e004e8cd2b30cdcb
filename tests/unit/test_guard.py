"""Which addresses may be called for callers: none inside, in no spelling, and nothing that a name leads to there."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.errors import AddressRefused
from penstock.outbound.guard import Guard

INSIDE = [
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16"),
    *("169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    "255.255.255.255",
]
INSIDE_6 = [
    *("::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
    *("100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2001:db8::1", "3fff::1", "5f00::1", "64:ff9b:1::a00:1", "64:ff9b:1::808:808"),
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.1",
]
PUBLIC_6 = ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "64:ff9b::808:808", "::ffff:8.8.8.8"]
PUBLIC_6 += ["2002:808:808::1"]


def wrapped(address: str) -> list[str]:
    """The forms in which IPv6 carries an IPv4 address: mapped, NAT64, 6to4, ISATAP, and both of the last two."""
    number = int(IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"2606:4700::5efe:{address}",
        f"2606:4700::200:5efe:{address}",
        f"2002:{high:x}:{low:x}::5efe:8.8.8.8",
        f"2002:808:808::5efe:{address}",
    ]


def refused(guard: Guard, *addresses: str) -> bool:
    try:
        guard.admit(addresses, "hook.example:443")
    except AddressRefused:
        return True
    return False


@pytest.mark.parametrize("address", [*INSIDE, *INSIDE_6])
def test_nothing_inside_is_called(address: str) -> None:
    assert refused(Guard(), address)


@pytest.mark.parametrize("address", INSIDE)
def test_nothing_inside_is_called_in_the_clothes_of_ipv6(address: str) -> None:
    assert [form for form in wrapped(address) if not refused(Guard(), form)] == []


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_6])
def test_what_is_public_may_be_called(address: str) -> None:
    assert not refused(Guard(), address)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_of_ipv4_nothing_is_called_that_python_s_own_lists_call_inside(address: IPv4Address) -> None:
    inside = not address.is_global or address.is_multicast or address.is_reserved
    assert refused(Guard(), str(address)) or not inside


@given(
    st.integers(0, 2**128 - 1).map(IPv6Address) | st.integers(0, 2**125 - 1).map(lambda n: IPv6Address(n | 1 << 125))
)
@example(IPv6Address("2001:db8::"))
def test_of_ipv6_nothing_is_called_that_python_s_own_lists_call_inside(address: IPv6Address) -> None:
    inside = not address.is_global or address.is_multicast or address.is_site_local
    assert refused(Guard(), str(address)) or not inside


def test_of_a_host_s_addresses_none_may_lie_inside() -> None:
    assert not refused(Guard(), "8.8.8.8", "1.1.1.1")
    assert refused(Guard(), "8.8.8.8", "10.0.0.1")


def test_an_operator_is_told_which_address_it_was_and_a_caller_is_not() -> None:
    with pytest.raises(AddressRefused, match=r"hook\.example:443 \(10\.0\.0\.1\)") as caught:
        Guard().admit(["10.0.0.1"], "hook.example:443")
    assert caught.value.public == "The provider has an address that is not allowed."


def test_what_is_allowed_may_be_called_and_its_neighbours_may_not() -> None:
    guard = Guard(["10.1.0.0/16", "fd00:1::/32"])
    assert not refused(guard, "10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::5", "8.8.8.8")
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fd00:2::1", "127.0.0.1", "169.254.169.254"):
        assert refused(guard, address)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "017700000001", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.01"),
        *("1.2.3.4.5", "256.1.1.1", "0", "example.0x", "[fe80::1%25eth0]", "[::1", "[::ffff:0177.0.0.1]"),
        *("exa mple.com", "ex%61mple.com", "example.com.", ".example.com", "a..b", "-a.com", "a-.com", "x" * 64, ""),
        *(
            "ⓔxample.com",
            "münchen.de",
            "127。0。0。1",
            "example.com\\@evil.com",
            "example.com\t",
            "a" * 63 + ".b" * 100,
        ),
    ],
)
def test_an_odd_spelling_of_a_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not"):
        Guard().check(f"https://{host}/hook")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.com/", "must begin with https://"),
        ("ftp://example.com/", "must begin with https://"),
        ("file:///etc/passwd", "must begin with"),
        ("//example.com/", "must begin with"),
        ("example.com", "must begin with"),
        ("https://me@example.com/", "user name"),
        ("https://me:you@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://8.8.8.8@10.0.0.1/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:0/", "port"),
        ("https://example.com:99999/", "is not an address"),
        ("https://example.com:x/", "is not an address"),
        ("https://example.com/\r\nx-evil: 1", "visible"),
        ("https://example.com/" + "x" * 2000, "at most 2000"),
        ("", "visible"),
        *((f"https://{address}/", "private") for address in INSIDE),
        *((f"https://[{address}]/", "private") for address in INSIDE_6 if "%" not in address),
        *((f"https://[{form}]/", "private") for form in wrapped("169.254.169.254")),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_with_words(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Guard().check(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://example.com",
            "https://example.com:8443/hook?a=b",
            "HTTPS://Example.COM/",
            "https://xn--mnchen-3ya.de/",
        ),
        *("https://8.8.8.8/", "https://[2606:4700:4700::1111]:8443/", "https://_dmarc.example.com/", "https://hook/"),
    ],
)
def test_what_can_be_meant_is_taken(url: str) -> None:
    Guard().check(url)


def test_plain_http_and_networks_inside_are_taken_where_the_operator_says_so() -> None:
    Guard(["127.0.0.0/8"], allow_http=True).check("http://127.0.0.1:8080/hook")
    with pytest.raises(ValueError, match="private"):
        Guard(["127.0.0.0/8"], allow_http=True).check("http://10.0.0.1/hook")
