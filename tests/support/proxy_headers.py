"""Headers of the PROXY protocol, as a proxy writes them: a small encoder beside the parser of the server."""

import socket
import struct
import zlib
from collections.abc import Sequence

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX, UNIX_DATAGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, NETNS = 1, 2, 3, 4, 5, 0x20, 0x30

type Address = tuple[str, int]


def v1(client: Address, server: Address) -> bytes:
    family = "TCP6" if ":" in client[0] else "TCP4"
    return f"PROXY {family} {client[0]} {server[0]} {client[1]} {server[1]}\r\n".encode()


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def raw(command: int = PROXY, family: int = TCP4, block: bytes = b"", length: int | None = None) -> bytes:
    """Any header of version 2, also one that is wrong."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def inet(client: Address, server: Address) -> bytes:
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    hosts = socket.inet_pton(family, client[0]) + socket.inet_pton(family, server[0])
    return hosts + struct.pack("!HH", client[1], server[1])


def unix(client: bytes, server: bytes) -> bytes:
    return client.ljust(108, b"\0") + server.ljust(108, b"\0")


def v2(client: Address, server: Address, tlvs: Sequence[tuple[int, bytes]] = ()) -> bytes:
    family = TCP6 if ":" in client[0] else TCP4
    return raw(PROXY, family, inet(client, server) + b"".join(tlv(*each) for each in tlvs))


def ssl(
    subs: Sequence[tuple[int, bytes]] = ((0x21, b"TLSv1.3"), (0x23, b"TLS_AES_256_GCM_SHA384")), client: int = 1,
    verify: int = 0,
) -> tuple[int, bytes]:  # fmt: skip
    return SSL, struct.pack("!BI", client, verify) + b"".join(tlv(*each) for each in subs)


def with_checksum(header: bytes) -> bytes:
    """The same with a TLV for its checksum at its end."""
    length = len(header) - 16 + 7
    whole = header[:14] + struct.pack("!H", length) + header[16:] + tlv(CRC32C, bytes(4))
    return whole[:-4] + struct.pack("!I", crc32c(whole))


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283 != zlib.crc32(b"123456789")
