"""Whose word is taken: addresses, networks, `unix` and `*`. The standard library's `ipaddress` is the reference."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols.trusted import DEFAULT, TrustedPeers


def trusts(entries: str | list[str], host: str) -> bool:
    return TrustedPeers.parse(entries).trusts((host, 4711))


def test_the_default_trusts_this_machine_and_nobody_else():
    trusted = TrustedPeers.parse(DEFAULT)
    assert all(trusted.trusts((host, 1)) for host in ("127.0.0.1", "::1", "0:0::1"))
    assert not any(trusted.trusts((host, 1)) for host in ("127.0.0.2", "10.0.0.1", "::2"))
    assert not trusted.trusts(None)


@pytest.mark.parametrize(
    ("entries", "host", "expected"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "010.0.0.1", False),
        ("10.0.0.1", "10.0.0.1 ", False),
        ("10.0.0.1", "10.1", False),
        ("10.0.0.1", "167772161", False),
        ("10.0.0.1", "", False),
        ("", "", False),
        (",,", "", False),
        (" 10.0.0.1 ,10.0.0.2", "10.0.0.2", True),
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", True),
        ("10.0.0.0/0.255.255.255", "10.1.2.3", True),
        ("10.0.0.0/0.255.255.255", "11.1.2.3", False),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "203.0.113.9", False),
        ("2001:DB8::/32", "2001:db8:0:0::7", True),
        ("2001:db8::/32", "2001:db9::7", False),
        ("2001:db8::1", "2001:0db8:0:0:0:0:0:1", True),
        # addresses that IPv6 has mapped
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::FFFF:0a01:0203", True),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.9.9.9", True),
        ("10.0.0.0/8", "::10.1.2.3", False),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3", False),
        ("::/0", "::ffff:10.1.2.3", True),
        # zones
        ("fe80::1", "fe80::1%eth0", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80:0::1%eth0", True),
        ("fe80::1%eth0", "fe80::1%eth1", False),
        ("fe80::1%eth0", "fe80::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fe80::/10", "fe80::1%", False),
        ("fe80::/10", "fe80::1%a%b", False),
        ("10.0.0.0/8", "10.0.0.1%eth0", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1%eth0", False),
        # words, which no peer has
        ("localhost", "127.0.0.1", False),
        ("_gateway", "_gateway", True),
        ("unknown", "unknown", True),
        ("unix", "unix:", True),
        ("127.0.0.1", "unix:", False),
        # what is no text of an address
        ("0.0.0.0/0", "1.2.3.4\0", False),
        ("0.0.0.0/0", "\ud800", False),
        ("::/0", ":" * 70000, False),
        ("::/0", "::1\n", False),
    ],
)  # fmt: skip
def test_an_entry_trusts_these_hosts_and_not_those(entries, host, expected):
    assert trusts(entries, host) is expected


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.256", "10.0.0", "1.2.3.4.5", "010.0.0.1", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8/8",
     "10.0.0.1/8", "10.0.0.0/255.0.255.0", "10.0.0.0/00000008", "::/129", "::1/64", "::g", "fe80::%eth0/64", "[::1]",
     "10.0.0.1:80", "10.*", "10.0.0.1 10.0.0.2", "a b", "10.0.0.0/\u0668", "::/ffff::"],
)  # fmt: skip
def test_a_malformed_entry_is_an_error_that_names_it(entry):
    with pytest.raises(ValueError, match=re.escape(repr(entry))):
        TrustedPeers.parse(["127.0.0.1", entry])


def test_an_address_in_a_network_is_an_error_that_names_the_network():
    with pytest.raises(ValueError, match=r"^'10\.1\.2\.3/255\.0\.0\.0' is an address in a network.*10\.0\.0\.0/8$"):
        TrustedPeers.parse("10.1.2.3/255.0.0.0")


def test_a_star_trusts_everybody_and_stands_alone():
    trusted = TrustedPeers.parse("*")
    assert trusted.all
    assert all(trusted.trusts(client) for client in (None, ("203.0.113.9", 1), ("x", 1)))
    with pytest.raises(ValueError, match="stand alone"):
        TrustedPeers.parse("127.0.0.1,*")


@pytest.mark.parametrize("entries", ["unix", "127.0.0.1, unix", ["10.0.0.0/8", "unix"], "*"])
def test_unix_trusts_the_peer_at_a_unix_socket(entries):
    assert TrustedPeers.parse(entries).trusts(None)


def test_a_unix_socket_is_not_trusted_by_addresses():
    assert not TrustedPeers.parse(["0.0.0.0/0", "::/0"]).trusts(None)


def test_words_are_kept_so_that_they_can_be_warned_of():
    assert TrustedPeers.parse("127.0.0.1,localhost,unix,proxy.internal").words == ("localhost", "proxy.internal")


addresses = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(network="10.0.0.0/28"),
    st.ip_addresses(network="::ffff:10.0.0.0/124"),
    st.ip_addresses(network="2001:db8::/124"),
)


@st.composite
def entries(draw):
    address = draw(addresses)
    if draw(st.booleans()):
        return draw(st.sampled_from([str(address), getattr(address, "exploded", str(address))]))
    prefix = draw(st.integers(0, address.max_prefixlen))
    return str(ipaddress.ip_network((address, prefix), strict=False))


@given(st.lists(entries(), max_size=5), addresses)
def test_addresses_and_networks_are_trusted_as_ipaddress_says(entries, address):
    def listed(address):
        return any(address in ipaddress.ip_network(entry) for entry in [*entries, *map(unmapped, entries)])

    mapped = getattr(address, "ipv4_mapped", None)
    expected = listed(address) or (mapped is not None and listed(mapped))
    assert trusts(entries, str(address)) is expected


def unmapped(entry: str) -> str:
    """The IPv4 network that a network of mapped addresses stands for, else the same."""
    network = ipaddress.ip_network(entry)
    if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}"
    return entry


@given(st.one_of(st.text("0123456789abcdef.:%/", max_size=20), st.text(max_size=8)))
def test_text_is_an_address_where_ipaddress_says_so(text):
    try:
        expected = "/" not in text and ipaddress.ip_address(text) is not None
    except ValueError:
        expected = False
    assert (trusts("0.0.0.0/0,::/0", text)) is expected
