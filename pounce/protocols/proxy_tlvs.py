"""What a header of version 2 of the PROXY protocol says beyond the addresses: its TLVs, each a type, a length and a
value (section 2.2.1 and those that follow it in HAProxy's doc/proxy-protocol.txt).

Those of the specification must be well-formed, as a header is accepted or rejected whole. Those of cloud providers have
types that anyone may use for something else: one that has not the provider's form is no fact, and no error.

Owner: none; nothing here changes.
"""

from functools import cache

TYPE_ALPN = 0x01
TYPE_AUTHORITY = 0x02
TYPE_CRC32C = 0x03
TYPE_UNIQUE_ID = 0x05
TYPE_SSL = 0x20
TYPE_NETNS = 0x30
TYPE_AWS = 0xEA  # AWS, "Network Load Balancers: PROXY protocol"
TYPE_AZURE = 0xEE  # Azure Private Link service, "Getting connection information using TCP proxy v2"

MAX_UNIQUE_ID = 128
"""Bytes: section 2.2.5."""

_CLIENT_SSL, _CLIENT_CERT = 0x01, 0x02 | 0x04
"""In the first byte of TYPE_SSL: the client has used TLS; it has presented a certificate in this connection, or in the
session that it goes on with."""
_SSL_FIXED = 5  # bytes before the TLVs in it
_SSL_TEXTS = {
    0x21: "version",
    0x22: "client_cn",
    0x23: "cipher",
    0x24: "signature_algorithm",
    0x25: "key_algorithm",
    0x26: "group",
    0x27: "signature_scheme",
}
_SSL_CLIENT_CERT = 0x28


class ProxyHeaderError(ValueError):
    """Bytes that are no valid header. The text says why."""


def read(header: bytes, start: int, facts: dict[str, object]) -> bool:
    """Adds what the TLVs from `start` on say to `facts`. True if the client has used TLS. Raises ProxyHeaderError."""
    tlvs: list[tuple[int, bytes]] = []
    known: dict[int, bytes] = {}
    for kind, at, value in _split(header, start):
        if kind == TYPE_CRC32C:
            _check(header, at, value)
        tlvs.append((kind, value))
        known.setdefault(kind, value)  # the first counts, as for nginx
    if TYPE_ALPN in known:
        facts["alpn"] = known[TYPE_ALPN].decode(errors="replace")
    if TYPE_AUTHORITY in known:
        facts["authority"] = known[TYPE_AUTHORITY].decode(errors="replace")
    if TYPE_UNIQUE_ID in known:
        facts["unique_id"] = known[TYPE_UNIQUE_ID]
        if len(known[TYPE_UNIQUE_ID]) > MAX_UNIQUE_ID:
            raise ProxyHeaderError(f"its unique id has more than {MAX_UNIQUE_ID} bytes")
    if TYPE_NETNS in known:
        facts["netns"] = known[TYPE_NETNS].decode(errors="replace")
    aws, azure = known.get(TYPE_AWS, b""), known.get(TYPE_AZURE, b"")
    if aws[:1] == b"\x01" and aws.isascii():
        facts["aws_vpc_endpoint_id"] = aws[1:].decode()
    if azure[:1] == b"\x01" and len(azure) == 5:
        facts["azure_private_endpoint_link_id"] = int.from_bytes(azure[1:], "little")
    encrypted = TYPE_SSL in known and _read_ssl(known[TYPE_SSL], facts)
    if tlvs:
        facts["tlvs"] = tuple(tlvs)
    return encrypted


def _split(data: bytes, start: int) -> list[tuple[int, int, bytes]]:
    """The type, the position and the value of each."""
    found = []
    while start < len(data):
        at = start + 3
        end = at + int.from_bytes(data[start + 1 : at])
        if at > len(data) or end > len(data):
            raise ProxyHeaderError("the last of its TLVs does not end where the header does")
        found.append((data[start], at, data[at:end]))
        start = end
    return found


def _read_ssl(value: bytes, facts: dict[str, object]) -> bool:
    if len(value) < _SSL_FIXED:
        raise ProxyHeaderError("what it says of TLS is too short")
    details = {kind: text for kind, _, text in reversed(_split(value, _SSL_FIXED))}
    if not value[0] & _CLIENT_SSL:
        return False
    tls: dict[str, object] = {
        name: details[kind].decode(errors="replace") for kind, name in _SSL_TEXTS.items() if kind in details
    }
    if _SSL_CLIENT_CERT in details:
        tls["client_cert"] = details[_SSL_CLIENT_CERT]
    # Zero is written by senders that have asked for no certificate, too.
    tls["client_verified"] = bool(value[0] & _CLIENT_CERT) and value[1:_SSL_FIXED] == bytes(4)
    facts["tls"] = tls
    return True


def _check(header: bytes, at: int, value: bytes) -> None:
    """The checksum is that of the header with zeros in its place (section 2.2.3)."""
    if len(value) != 4 or int.from_bytes(value) != crc32c(header[:at] + bytes(4) + header[at + 4 :]):
        raise ProxyHeaderError("its checksum is wrong")


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC (RFC 9260, appendix A)."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ 0x82F63B78 * (entry & 1)
        table.append(entry)
    return table
