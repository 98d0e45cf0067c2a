"""Headers of the PROXY protocol as raw bytes: what is accepted, what is rejected, and how soon."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols.proxy import MAX_V2, ProxyHeaderError, read_header
from pounce.protocols.proxy_tlvs import crc32c
from tests.support import proxy_headers as encode
from tests.support.proxy_headers import LOCAL, PROXY, TCP4, TCP6, UNIX, UNSPEC

CLIENT, SERVER = ("192.0.2.7", 51234), ("198.51.100.1", 443)
CLIENT6, SERVER6 = ("2001:db8::7", 51234), ("2001:db8::1", 443)
INET = encode.inet(CLIENT, SERVER)
WORST = b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2 + [b"65535"] * 2) + b"\r\n"

ACCEPTED = {
    # Version 1
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n", (CLIENT, SERVER)),
    "v1 TCP4, the longest": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        (("255.255.255.255", 65535), ("255.255.255.255", 65535)),
    ),
    "v1 port 0": (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 443\r\n", (("192.0.2.7", 0), SERVER)),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n", (CLIENT6, SERVER6)),
    "v1 TCP6 in another form": (b"PROXY TCP6 2001:0DB8:0:0::7 2001:DB8::1 51234 443\r\n", (CLIENT6, SERVER6)),
    "v1 TCP6 of IPv4": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 51234 443\r\n",
        (("::ffff:192.0.2.7", 51234), ("::ffff:198.51.100.1", 443)),
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with what is to be ignored": (b"PROXY UNKNOWN ffff::1 what ever\xff\r\n", None),
    "v1 UNKNOWN, the worst case": (WORST, None),
    # Version 2
    "v2 TCP4": (encode.v2(CLIENT, SERVER), (CLIENT, SERVER)),
    "v2 TCP6": (encode.v2(CLIENT6, SERVER6), (CLIENT6, SERVER6)),
    "v2 UNIX": (encode.raw(PROXY, UNIX, encode.unix(b"/a", b"/run/b")), (None, ("/run/b", None))),
    "v2 UNIX without paths": (encode.raw(PROXY, UNIX, encode.unix(b"", b"\0name")), (None, ("", None))),
    "v2 UNIX, the longest path": (
        encode.raw(PROXY, UNIX, encode.unix(b"c" * 108, b"s" * 108)),
        (None, ("s" * 108, None)),
    ),
    "v2 UNSPEC": (encode.raw(PROXY, UNSPEC), None),
    "v2 UNSPEC with a TLV": (encode.raw(PROXY, UNSPEC, encode.tlv(encode.UNIQUE_ID, b"7")), None),
    "v2 LOCAL": (encode.raw(LOCAL, UNSPEC), None),
    "v2 LOCAL with addresses": (encode.raw(LOCAL, TCP4, INET), None),
    "v2 LOCAL with an unknown family and bytes that are nothing": (encode.raw(LOCAL, 0xFF, b"\x05\xff"), None),
    "v2 NOOP": (encode.v2(CLIENT, SERVER, [(encode.NOOP, b""), (encode.NOOP, b"pad")]), (CLIENT, SERVER)),
    "v2 TLVs of no meaning": (encode.v2(CLIENT, SERVER, [(0xE5, b"\0"), (0xF8, b""), (0x7F, b"x")]), (CLIENT, SERVER)),
    "v2 checksum": (encode.with_checksum(encode.v2(CLIENT, SERVER)), (CLIENT, SERVER)),
    "v2 checksum, not the last TLV": (
        encode.with_checksum(encode.v2(CLIENT6, SERVER6, [(encode.ALPN, b"h2")])),
        (CLIENT6, SERVER6),
    ),
    "v2 as large as may be": (
        encode.v2(CLIENT, SERVER, [(encode.NOOP, bytes(MAX_V2 - 16 - 12 - 3))]),
        (CLIENT, SERVER),
    ),
}

REJECTED = {
    # No header
    "HTTP": b"GET / HTTP/1.1\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1"),
    "POST": b"POST / HTTP/1.1\r\n",
    "PUT": b"PUT",
    "empty line before HTTP": b"\r\nGET / HTTP/1.1\r\n",
    "a zero byte": b"\0",
    "lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 51234 443\r\n",
    "a space first": b" PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n",
    # Version 1
    "v1 without anything": b"PROXY\r\n",
    "v1 with a space only": b"PROXY \r\n",
    "v1 a tab": b"PROXY\tTCP4 192.0.2.7 198.51.100.1 51234 443\r\n",
    "v1 two spaces": b"PROXY  TCP4 192.0.2.7 198.51.100.1 51234 443\r\n",
    "v1 two spaces later": b"PROXY TCP4 192.0.2.7  198.51.100.1 51234 443\r\n",
    "v1 a space at the end": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443 \r\n",
    "v1 a word more": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443 x\r\n",
    "v1 a word less": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234\r\n",
    "v1 LF alone": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\n",
    "v1 LF CR": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\n\r",
    "v1 LF before CR LF": b"PROXY TCP4 192.0.2.7\n198.51.100.1 51234 443\r\n",
    "v1 UNKNOWN with LF alone": b"PROXY UNKNOWN\n",
    "v1 UNKNOWN with LF before CR LF": b"PROXY UNKNOWN a\nb\r\n",
    "v1 CR inside": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234\r443\r\n",
    "v1 NUL": b"PROXY TCP4 192.0.2.7\0 198.51.100.1 51234 443\r\n",
    "v1 UDP4": b"PROXY UDP4 192.0.2.7 198.51.100.1 51234 443\r\n",
    "v1 TCP": b"PROXY TCP 192.0.2.7 198.51.100.1 51234 443\r\n",
    "v1 TCP4 in lower case": b"PROXY tcp4 192.0.2.7 198.51.100.1 51234 443\r\n",
    "v1 UNKNOWNS": b"PROXY UNKNOWNS\r\n",
    "v1 unknown": b"PROXY unknown\r\n",
    "v1 TCP4 with IPv6": b"PROXY TCP4 2001:db8::7 2001:db8::1 51234 443\r\n",
    "v1 TCP6 with IPv4": b"PROXY TCP6 192.0.2.7 198.51.100.1 51234 443\r\n",
    "v1 mixed families": b"PROXY TCP6 2001:db8::7 198.51.100.1 51234 443\r\n",
    "v1 short IPv4": b"PROXY TCP4 192.0.2 198.51.100.1 51234 443\r\n",
    "v1 octal IPv4": b"PROXY TCP4 192.0.02.7 198.51.100.1 51234 443\r\n",
    "v1 hexadecimal IPv4": b"PROXY TCP4 0xc0000207 198.51.100.1 51234 443\r\n",
    "v1 IPv4 too large": b"PROXY TCP4 192.0.2.256 198.51.100.1 51234 443\r\n",
    "v1 a host name": b"PROXY TCP4 localhost 198.51.100.1 51234 443\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%lo fe80::2 51234 443\r\n",
    "v1 brackets": b"PROXY TCP6 [2001:db8::7] [2001:db8::1] 51234 443\r\n",
    "v1 port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    "v1 port with a zero first": b"PROXY TCP4 192.0.2.7 198.51.100.1 051234 443\r\n",
    "v1 port 00": b"PROXY TCP4 192.0.2.7 198.51.100.1 00 443\r\n",
    "v1 negative port": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
    "v1 port with a sign": b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
    "v1 port with a superscript": "PROXY TCP4 192.0.2.7 198.51.100.1 5\xb2 443\r\n".encode("latin-1"),
    "v1 no port": b"PROXY TCP4 192.0.2.7 198.51.100.1  443\r\n",
    "v1 a byte beyond ASCII": b"PROXY TCP4 192.0.2.7\xa0 198.51.100.1 51234 443\r\n",
    "v1 a byte longer than the worst case": WORST[:-2] + b"5\r\n",
    "v1 107 bytes without CR LF": b"PROXY UNKNOWN ".ljust(107, b"x"),
    "v1 107 bytes, the last a CR": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r",
    # Version 2
    "v2 signature with a wrong byte": encode.v2(CLIENT, SERVER).replace(b"QUIT", b"QUIZ"),
    "v2 version 1": encode.raw(0x11, TCP4, INET),
    "v2 version 3": encode.raw(0x31, TCP4, INET),
    "v2 version 0": encode.raw(0x01, TCP4, INET),
    "v2 command 2": encode.raw(0x22, TCP4, INET),
    "v2 command 15": encode.raw(0x2F, TCP4, INET),
    "v2 UDP4": encode.raw(PROXY, encode.UDP4, INET),
    "v2 UDP6": encode.raw(PROXY, encode.UDP6, encode.inet(CLIENT6, SERVER6)),
    "v2 UNIX datagrams": encode.raw(PROXY, encode.UNIX_DATAGRAM, encode.unix(b"/a", b"/b")),
    "v2 family 4": encode.raw(PROXY, 0x41, INET),
    "v2 transport 3": encode.raw(PROXY, 0x13, INET),
    "v2 IPv4 without a transport": encode.raw(PROXY, 0x10, INET),
    "v2 a stream without a family": encode.raw(PROXY, 0x01, INET),
    "v2 IPv4 without addresses": encode.raw(PROXY, TCP4),
    "v2 IPv4, a byte too short": encode.raw(PROXY, TCP4, INET[:-1]),
    "v2 IPv6 with the length of IPv4": encode.raw(PROXY, TCP6, INET),
    "v2 UNIX, a byte too short": encode.raw(PROXY, UNIX, bytes(215)),
    "v2 a byte too large": encode.v2(CLIENT, SERVER, [(encode.NOOP, bytes(MAX_V2 - 16 - 12 - 3 + 1))]),
    "v2 64 KiB": encode.raw(PROXY, TCP4, length=65535),
    "v2 LOCAL of 64 KiB": encode.raw(LOCAL, UNSPEC, length=65535),
    "v2 TLV of one byte": encode.raw(PROXY, TCP4, INET + b"\x04"),
    "v2 TLV without all of its length": encode.raw(PROXY, TCP4, INET + b"\x04\0"),
    "v2 TLV longer than the header": encode.raw(PROXY, TCP4, INET + b"\x04\0\x02x"),
    "v2 TLV of 64 KiB": encode.raw(PROXY, TCP4, INET + b"\x04\xff\xffx"),
    "v2 UNSPEC with bytes that are no TLV": encode.raw(PROXY, UNSPEC, INET),
    "v2 wrong checksum": encode.with_checksum(encode.v2(CLIENT, SERVER))[:-1] + b"\0",
    "v2 checksum of three bytes": encode.v2(CLIENT, SERVER, [(encode.CRC32C, bytes(3))]),
    "v2 checksum of zeros": encode.v2(CLIENT, SERVER, [(encode.CRC32C, bytes(4))]),
    "v2 unique id of 129 bytes": encode.v2(CLIENT, SERVER, [(encode.UNIQUE_ID, bytes(129))]),
    "v2 TLS, too short": encode.v2(CLIENT, SERVER, [(encode.SSL, b"\1\0\0\0")]),
    "v2 TLS with a TLV that is too long": encode.v2(CLIENT, SERVER, [(encode.SSL, b"\1\0\0\0\0\x21\0\x09TLSv1.3")]),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_valid_header_gives_the_addresses(name):
    header, addresses = ACCEPTED[name]
    read = read_header(header)
    assert read is not None
    assert (read.size, read.addresses, read.encrypted) == (len(header), addresses, False)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_valid_header_is_complete_with_its_last_byte_and_what_follows_is_not_its_own(name):
    header, addresses = ACCEPTED[name]
    for end in range(1, min(len(header), 300)):
        assert read_header(header[:end]) is None
    assert read_header(header[:-1]) is None
    read = read_header(bytearray(header + b"GET / HTTP/1.1\r\n\r\n"))
    assert read is not None
    assert (read.size, read.addresses) == (len(header), addresses)


@pytest.mark.parametrize("name", REJECTED)
def test_bytes_that_are_no_valid_header_are_rejected_however_they_come(name):
    with pytest.raises(ProxyHeaderError):
        read_header(REJECTED[name])
    for end in range(1, len(REJECTED[name]) + 1):
        try:
            assert read_header(REJECTED[name][:end]) is None
        except ProxyHeaderError:
            return


@pytest.mark.parametrize(
    ("data", "end"),
    [
        pytest.param(b"GET /", 1, id="HTTP"),
        pytest.param(b"POST /", 2, id="POST"),
        pytest.param(b"\r\nGET /", 3, id="after an empty line"),
        pytest.param(encode.raw(0x11, TCP4, INET), 16, id="version"),
        pytest.param(encode.raw(PROXY, encode.UDP4, INET), 16, id="datagrams"),
        pytest.param(encode.raw(PROXY, TCP4, bytes(11)), 16, id="length"),
        pytest.param(encode.raw(PROXY, TCP4, length=65535), 16, id="64 KiB"),
    ],
)
def test_a_header_that_cannot_become_valid_is_rejected_at_once(data, end):
    assert end == 1 or read_header(data[: end - 1]) is None
    with pytest.raises(ProxyHeaderError):
        read_header(data[:end])


def test_tlvs_are_facts():
    tlvs = [
        (encode.ALPN, b"h2"),
        (encode.AUTHORITY, "b\xfccher.example".encode()),
        (encode.UNIQUE_ID, b"\x00\xffid"),
        (encode.NETNS, b"blue"),
        (0xEA, b"\x01vpce-08d2bf15fac5001c9"),
        (0xEE, b"\x01\xc1\x45\x00\x21"),
        (0xE0, b"other"),
    ]
    read = read_header(encode.v2(CLIENT, SERVER, tlvs))
    assert read is not None
    assert read.facts == {
        "version": 2,
        "command": "PROXY",
        "client": CLIENT,
        "server": SERVER,
        "alpn": "h2",
        "authority": "b\xfccher.example",
        "unique_id": b"\x00\xffid",
        "netns": "blue",
        "aws_vpc_endpoint_id": "vpce-08d2bf15fac5001c9",
        "azure_private_endpoint_link_id": 0x210045C1,
        "tlvs": tuple(tlvs),
    }


def test_tlvs_that_only_look_like_those_of_a_cloud_are_no_facts():
    tlvs = [(0xEA, b"\x02vpce"), (0xEA, b"\x01vpce-1"), (0xEE, b"\x01\0\0")]
    read = read_header(encode.v2(CLIENT, SERVER, tlvs))
    assert read is not None
    assert read.facts["tlvs"] == tuple(tlvs)
    assert not {"aws_vpc_endpoint_id", "azure_private_endpoint_link_id"} & set(read.facts)


def test_of_two_tlvs_of_one_type_the_first_is_the_fact():
    tlvs = [(encode.UNIQUE_ID, b"1"), (encode.UNIQUE_ID, b"2"), encode.ssl(client=0), encode.ssl()]
    read = read_header(encode.v2(CLIENT, SERVER, tlvs))
    assert read is not None
    assert read.facts["unique_id"] == b"1"
    assert not read.encrypted
    assert "tls" not in read.facts


def test_bytes_that_are_not_utf_8_are_replaced_and_stay_in_the_tlvs():
    read = read_header(encode.v2(CLIENT, SERVER, [(encode.AUTHORITY, b"a\xff")]))
    assert read is not None
    assert (read.facts["authority"], read.facts["tlvs"]) == ("a\ufffd", ((encode.AUTHORITY, b"a\xff"),))


def test_tls_of_the_client_is_a_fact_with_all_its_details():
    details = [
        (0x21, b"TLSv1.3"), (0x22, b"alice"), (0x23, b"TLS_AES_256_GCM_SHA384"), (0x24, b"RSA-SHA256"),
        (0x25, b"RSA2048"), (0x26, b"X25519"), (0x27, b"rsa_pss"), (0x28, b"\x30\x82DER"), (0x7F, b"?"),
    ]  # fmt: skip
    read = read_header(encode.v2(CLIENT, SERVER, [encode.ssl(details, client=7)]))
    assert read is not None
    assert read.encrypted
    assert read.facts["tls"] == {
        "version": "TLSv1.3",
        "client_cn": "alice",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "signature_algorithm": "RSA-SHA256",
        "key_algorithm": "RSA2048",
        "group": "X25519",
        "signature_scheme": "rsa_pss",
        "client_cert": b"\x30\x82DER",
        "client_verified": True,
    }


@pytest.mark.parametrize(
    ("client", "verify", "verified"),
    [(1, 0, False), (3, 0, True), (5, 0, True), (3, 1, False), (7, 0x100, False)],
    ids=["no certificate", "certificate", "of the session", "not verified", "an error in another byte"],
)
def test_a_client_is_verified_only_by_a_certificate_of_its_own(client, verify, verified):
    read = read_header(encode.v2(CLIENT, SERVER, [encode.ssl((), client, verify)]))
    assert read is not None
    assert read.facts["tls"] == {"client_verified": verified}


def test_local_says_nothing_about_a_client():
    block = INET + encode.tlv(encode.UNIQUE_ID, b"1") + encode.tlv(*encode.ssl())
    read = read_header(encode.raw(LOCAL, TCP4, block))
    assert read is not None
    assert (read.addresses, read.encrypted) == (None, False)
    assert read.facts == {"version": 2, "command": "LOCAL", "client": None, "server": None}


def test_an_unspecified_family_keeps_its_tlvs():
    block = encode.tlv(encode.UNIQUE_ID, b"1") + encode.tlv(*encode.ssl())
    read = read_header(encode.raw(PROXY, UNSPEC, block))
    assert read is not None
    assert (read.addresses, read.encrypted, read.facts["unique_id"]) == (None, True, b"1")


# Properties

hosts = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
).map(lambda pair: (str(pair[0]), str(pair[1])))
ports = st.integers(0, 65535)
others = st.integers(0, 255).filter(lambda kind: kind not in (encode.CRC32C, encode.UNIQUE_ID, encode.SSL))


@given(hosts=hosts, client_port=ports, server_port=ports, rest=st.binary(max_size=40))
def test_v1_gives_back_what_was_encoded(hosts, client_port, server_port, rest):
    client, server = (hosts[0], client_port), (hosts[1], server_port)
    header = encode.v1(client, server)
    read = read_header(header + rest)
    assert read is not None
    assert read.size == len(header)
    assert read.addresses is not None
    assert encode.inet(*read.addresses) == encode.inet(client, server)  # one address has several texts
    assert (read.facts["client"], read.facts["server"]) == read.addresses


@given(
    hosts=hosts, client_port=ports, server_port=ports, rest=st.binary(max_size=40), checked=st.booleans(),
    tlvs=st.lists(st.tuples(others, st.binary(max_size=300)), max_size=8), cut=st.integers(1, 2000),
)  # fmt: skip
def test_v2_gives_back_what_was_encoded(hosts, client_port, server_port, rest, checked, tlvs, cut):
    client, server = (hosts[0], client_port), (hosts[1], server_port)
    header = encode.v2(client, server, tlvs)
    if checked:
        header = encode.with_checksum(header)
    read = read_header(header + rest)
    assert read is not None
    assert read.size == len(header)
    assert read.addresses is not None
    assert encode.inet(*read.addresses) == encode.inet(client, server)
    told = read.facts.get("tlvs", ())
    assert isinstance(told, tuple)
    assert list(told[: len(tlvs)]) == tlvs
    assert read_header(header[: cut % len(header) or 1]) is None


@given(data=st.binary(min_size=1, max_size=300), signed=st.sampled_from([b"", encode.SIGNATURE, b"PROXY "]))
def test_any_bytes_are_a_header_or_rejected_or_awaited_and_more_of_them_change_no_verdict(data, signed):
    data = signed + data
    verdicts = []
    for end in range(1, len(data) + 1):
        try:
            read = read_header(data[:end])
            verdicts.append("awaited" if read is None else read.size)
            assert read is None or read.size <= end
        except ProxyHeaderError:
            verdicts.append("rejected")
    decided = [verdict for verdict in verdicts if verdict != "awaited"]
    assert len(set(decided)) <= 1
    assert verdicts == ["awaited"] * (len(verdicts) - len(decided)) + decided


@given(data=st.binary(max_size=200), flipped=st.integers(0, 199 * 8))
def test_checksum_finds_a_changed_bit(data, flipped):
    assert crc32c(data) == encode.crc32c(data)
    if data:
        changed = bytearray(data)
        changed[flipped // 8 % len(data)] ^= 1 << flipped % 8
        assert crc32c(bytes(changed)) != crc32c(data)
