"""The Forwarded field of RFC 7239: what is legal, what is forged, and what a client cannot reach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols.forwarded_field import UNKNOWN, read_forwarded
from pounce.protocols.forwarding import Forwarded
from pounce.protocols.trusted import TrustedPeers

TRUSTED = TrustedPeers.parse("127.0.0.1, 10.0.0.0/8, _gateway")


def read(*lines, trusted=TRUSTED, host=True):
    return read_forwarded([(b"forwarded", line) for line in lines], trusted, host=host)


@pytest.mark.parametrize(
    ("field", "client"),
    [
        # RFC 7239, sections 4 and 6
        (b'for="_gazonk"', ("_gazonk", 0)),
        (b'For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711)),
        (b"for=192.0.2.60;proto=http;by=203.0.113.43", ("192.0.2.60", 0)),
        (b"for=192.0.2.43, for=198.51.100.17", ("198.51.100.17", 0)),
        (b"for=192.0.2.43, for=10.0.0.17", ("192.0.2.43", 0)),
        (b'for=_hidden, for=10.0.0.1', ("_hidden", 0)),
        (b"for=unknown", UNKNOWN),
        (b'for="192.0.2.43:47011"', ("192.0.2.43", 47011)),
        (b'for="192.0.2.43:_http"', ("192.0.2.43", 0)),
        (b'for="_gateway:80", for=10.0.0.1', ("_gateway", 80)),
        (b'for=192.0.2.43, for="_gateway:80"', ("192.0.2.43", 0)),
        (b'for="[2001:db8:cafe::17]", for=10.0.0.1', ("2001:db8:cafe::17", 0)),
        (b'for="192.0.2.43:65536"', ("192.0.2.43", 0)),
        # extensions, strings, white space
        (b'secret=egah2CGj55fSJFs;for=192.0.2.43', ("192.0.2.43", 0)),
        (b'for=192.0.2.43;x="a, for=6.6.6.6"', ("192.0.2.43", 0)),
        (b'x="a;for=6.6.6.6";for=192.0.2.43', ("192.0.2.43", 0)),
        (b'for=192.0.2.43;x="\\"\\\\"', ("192.0.2.43", 0)),
        (b'for="1\\92.0.2.43"', ("192.0.2.43", 0)),
        (b"for=192.0.2.43;", ("192.0.2.43", 0)),
        (b";for=192.0.2.43", ("192.0.2.43", 0)),
        (b"for=192.0.2.43,", ("192.0.2.43", 0)),
        (b" , for=192.0.2.43 ,\t, ", ("192.0.2.43", 0)),
        # read although it is not legal
        (b"for=192.0.2.43:80", ("192.0.2.43", 80)),
        (b"for=[2001:db8:cafe::17]:80", ("2001:db8:cafe::17", 80)),
        (b"for=192.0.2.43 ; proto=https", ("192.0.2.43", 0)),
        # nothing is said
        (b"", None),
        (b" , ;,", None),
        (b"proto=https", None),
        (b"by=203.0.113.43;host=example.org", None),
        # a proxy that is trusted does not say who its client is
        (b"proto=https, for=10.0.0.1", UNKNOWN),
        # not legal
        (b"192.0.2.43", UNKNOWN),
        (b"for=", UNKNOWN),
        (b'for=""', UNKNOWN),
        (b"for = 192.0.2.43", UNKNOWN),
        (b"for=192.0.2.43;for=192.0.2.43", UNKNOWN),
        (b"for=192.0.2.43;FOR=192.0.2.43", UNKNOWN),
        (b"for=192.0.2.43 proto=https", UNKNOWN),
        (b"for=192.0.2.256", UNKNOWN),
        (b"for=192.0.2", UNKNOWN),
        (b"for=2001:db8:cafe::17", UNKNOWN),
        (b'for="2001:db8:cafe::17"', UNKNOWN),
        (b'for="[2001:db8:cafe::17"', UNKNOWN),
        (b'for="[192.0.2.43]"', UNKNOWN),
        (b'for="[fe80::17%eth0]"', UNKNOWN),
        (b'for="192.0.2.43:http"', UNKNOWN),
        (b'for="192.0.2.43:"', UNKNOWN),
        (b"for=gateway", UNKNOWN),
        (b"for=_", UNKNOWN),
        (b'for="192.0.2.43\\"', UNKNOWN),
        (b"for='192.0.2.43'", UNKNOWN),
        (b"for=192.0.2.43\xe9", UNKNOWN),
        (b"garbage, for=10.0.0.1", UNKNOWN),
        (b"for=10.0.0.2;for=10.0.0.3, for=10.0.0.1", UNKNOWN),
        # forged: strings that would swallow what the proxy has added
        (b'for="6.6.6.6, for=192.0.2.43', ("192.0.2.43", 0)),
        (b'for="6.6.6.6\\, for=192.0.2.43', ("192.0.2.43", 0)),
        (b'for=6.6.6.6;x=", for=192.0.2.43', ("192.0.2.43", 0)),
        (b'for=6.6.6.6;x=", for="[2001:db8::1]"', ("2001:db8::1", 0)),
        (b'for=6.6.6.6;x="\\", for="[2001:db8::1]"', ("2001:db8::1", 0)),
        (b'for=6.6.6.6;x="\\, for="[2001:db8::1]"', ("2001:db8::1", 0)),
        (b'for=127.0.0.1;, for=192.0.2.43', ("192.0.2.43", 0)),
    ],
)  # fmt: skip
def test_who_the_client_is(field, client):
    assert read(field).client == client


@pytest.mark.parametrize(
    ("field", "scheme", "host"),
    [
        (b"proto=https", "https", None),
        (b"for=192.0.2.43;proto=HTTPS", "https", None),
        (b'for=192.0.2.43;proto="wss"', "wss", None),
        (b"for=192.0.2.43;proto=gopher", None, None),
        (b"for=192.0.2.43;host=example.org", None, b"example.org"),
        (b'for=192.0.2.43;host="example.org:8443"', None, b"example.org:8443"),
        (b'for=192.0.2.43;host="[2001:db8::1]:8443"', None, b"[2001:db8::1]:8443"),
        (b'for=192.0.2.43;host="a b"', None, None),
        (b'for=192.0.2.43;host="a@b"', None, None),
        (b'for=192.0.2.43;host=""', None, None),
        (b'for=192.0.2.43;host="\xe9"', None, None),
        # of the proxy that the client has talked to, and of no other
        (b"for=192.0.2.43;proto=https;host=a, for=10.0.0.1;proto=http;host=b", "https", b"a"),
        (b"for=192.0.2.43, for=10.0.0.1;proto=https;host=b", None, None),
        (b"for=6.6.6.6;proto=https;host=a, for=192.0.2.43", None, None),
        (b"garbage, for=10.0.0.1;proto=https;host=b", None, None),
        (b"proto=https;host=a, for=10.0.0.1;proto=http;host=b", "https", b"a"),
    ],
)
def test_scheme_and_host_are_those_of_the_clients_own_element(field, scheme, host):
    forwarded = read(field)
    assert (forwarded.scheme, forwarded.host) == (scheme, host)
    assert read(field, host=False) == forwarded._replace(host=None)


def test_lines_are_one_list():
    assert read(b"for=192.0.2.43;proto=https", b"for=10.0.0.1", b"for=10.0.0.2").client == ("192.0.2.43", 0)
    assert read(b'for="6.6.6.6', b"for=192.0.2.43").client == ("192.0.2.43", 0)
    assert read().client is None


def test_everybody_trusted_takes_the_leftmost():
    everybody = TrustedPeers.parse("*")
    assert read(b"for=6.6.6.6;proto=https, for=192.0.2.43", trusted=everybody).client == ("6.6.6.6", 0)
    assert read(b"garbage, for=192.0.2.43", trusted=everybody).client == UNKNOWN


tokens = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=6)
texts = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=8)
nodes = st.one_of(
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=4, network="10.0.0.0/30").map(str), st.just("_gateway"),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"), st.just("unknown"),
)  # fmt: skip


@st.composite
def parameters(draw):
    """An element: its parameters, and how they are written."""
    values = draw(st.dictionaries(tokens.filter(lambda name: name.lower() not in ("for", "proto")), texts, max_size=2))
    values = {name.lower(): value for name, value in values.items()}
    if draw(st.booleans()):
        values["for"] = draw(nodes) + draw(st.sampled_from(["", ":80"]))
    if draw(st.booleans()):
        values["proto"] = draw(st.sampled_from(["http", "https"]))
    written = []
    for name, value in values.items():
        escaped = "".join("\\" + char if char in '"\\' or draw(st.booleans()) else char for char in value)
        plain = value and all(char.isascii() and (char.isalnum() or char in "!#$%&'*+-.^_`|~") for char in value)
        written.append(f"{name}={value}" if plain and draw(st.booleans()) else f'{name}="{escaped}"')
    return values, ";".join(written)


@given(st.lists(parameters(), max_size=4), st.sampled_from([",", ", ", " ,, "]))
def test_a_legal_field_is_read_from_its_end_as_from_its_front(elements, comma):
    client, scheme = None, None
    for values, _ in reversed([element for element in elements if element[0]]):
        if "for" not in values:
            client, scheme = client and UNKNOWN, values.get("proto")
            break
        host, colon, port = values["for"].partition("]:" if values["for"][0] == "[" else ":")
        client, scheme = (host.strip("[]"), int(port) if colon else 0), values.get("proto")
        if not TRUSTED.trusts_host(client[0]):
            break
    field = comma.join(text for _, text in elements).encode("latin-1")
    assert read(field, host=False) == Forwarded(client, scheme)


@given(
    st.one_of(
        st.binary(max_size=40).map(lambda data: bytes(byte for byte in data if byte >= 32 and byte != 127)),
        st.text('for=",;\\ \t61.[]:x', max_size=40).map(str.encode),
    ),
    st.sampled_from([b",", b", "]),
    st.sampled_from(
        [
            b"for=192.0.2.43",
            b'for="192.0.2.43:80";by="_x"',
            b'for="[2001:db8::1]"',
            b'proto=https;for="[2001:db8::1]:1"',
        ]
    ),
)
def test_nothing_that_a_client_writes_changes_what_its_proxy_adds(forged, comma, added):
    assert read(forged + comma + added) == read(added) == read(forged, added)


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_no_bytes_raise(lines):
    read(*lines)
