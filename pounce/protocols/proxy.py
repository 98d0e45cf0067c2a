"""The header of the PROXY protocol, versions 1 and 2: bytes to facts about a connection that a proxy passes on.

Source: "The PROXY protocol", HAProxy's doc/proxy-protocol.txt. A header is accepted or rejected, and nothing is
guessed. Bytes that are no header must never be taken for the start of another protocol, because then a client could
leave the header out. What a header may say beyond the addresses is in `proxy_tlvs`.

Owner: none; nothing here changes.
"""

import socket
from typing import NamedTuple

from pounce.protocols import proxy_tlvs
from pounce.protocols.proxy_tlvs import ProxyHeaderError as ProxyHeaderError

type Address = tuple[str, int | None]

MAX_V1 = 107
"""Bytes of a header of version 1: "the worst case", section 2.1."""
MAX_V2 = 16384
"""Bytes of a header of version 2, whose length field allows 65551. HAProxy cannot send more than its buffer has
(tune.bufsize, 16384 by default), which is enough for a client's certificate; nginx reads no more than 4096."""

_PREFIX = b"PROXY "
_UNKNOWN = b"PROXY UNKNOWN"
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16  # bytes before the addresses in version 2

_UNIX_PATH = 108  # bytes
_STREAMS = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 2 * _UNIX_PATH}
"""Bytes of the addresses in version 2, by family and transport: unspecified, or a stream over IPv4, IPv6 or Unix."""
_DATAGRAMS = (0x12, 0x22, 0x32)


class ProxyHeader(NamedTuple):
    size: int
    """Bytes. What follows is the client's."""
    addresses: tuple[Address | None, Address] | None
    """Of the client (None over a Unix socket) and of the server that it has connected to. None where the header tells
    none: the addresses of the socket are the right ones."""
    encrypted: bool
    """Has the client used TLS, which the proxy has ended?"""
    facts: dict[str, object]
    """What the header says, for the application. Whoever gets it may change it."""


def read_header(data: bytes | bytearray) -> ProxyHeader | None:
    """Reads the header at the beginning of `data`; None while more of it is to come. Raises ProxyHeaderError as soon as
    the bytes cannot become a valid header."""
    start = bytes(data[:_FIXED])
    if start[:1] == _PREFIX[:1]:
        return _read_v1(bytes(data[:MAX_V1]))
    if not _SIGNATURE.startswith(start[: len(_SIGNATURE)]):
        raise ProxyHeaderError("it does not begin with one")
    if len(start) < _FIXED:
        return None
    return _read_v2(data, start[12], start[13], int.from_bytes(start[14:]))


# Version 1


def _read_v1(data: bytes) -> ProxyHeader | None:
    if not _PREFIX.startswith(data[: len(_PREFIX)]):
        raise ProxyHeaderError("it does not begin with one")
    size = data.find(b"\n") + 1
    if not size and len(data) < MAX_V1:
        return None
    line = data[: size - 2]
    if not size or data[len(line) : size] != b"\r\n":
        raise ProxyHeaderError(f"its line does not end with CR LF within {MAX_V1} bytes")
    facts: dict[str, object] = {"version": 1, "command": "PROXY", "client": None, "server": None}
    # "The receiver must ignore anything presented before the CRLF": only for UNKNOWN.
    if line == _UNKNOWN or line.startswith(_UNKNOWN + b" "):
        return ProxyHeader(size, None, False, facts)
    words = line.decode("latin-1").split(" ")
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyHeaderError("it has not the form PROXY TCP4|TCP6 CLIENT SERVER PORT PORT")
    family = socket.AF_INET if words[1] == "TCP4" else socket.AF_INET6
    client = facts["client"] = _text_address(family, words[2]), _text_port(words[4])
    server = facts["server"] = _text_address(family, words[3]), _text_port(words[5])
    return ProxyHeader(size, (client, server), False, facts)


def _text_address(family: int, text: str) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise ProxyHeaderError(f"{text!r} is no address of its family") from None


def _text_port(text: str) -> int:
    # "Heading zeroes are not permitted", section 2.1.
    if not (text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and int(text) < 65536):
        raise ProxyHeaderError(f"{text!r} is no port")
    return int(text)


# Version 2


def _read_v2(data: bytes | bytearray, version: int, family: int, length: int) -> ProxyHeader | None:
    """`version` is the byte of the version and the command."""
    if version not in (0x20, 0x21):
        raise ProxyHeaderError(f"its version and command are 0x{version:02x}, and not 0x20 or 0x21")
    size = _FIXED + length
    if size > MAX_V2:
        raise ProxyHeaderError(f"it has {size} bytes, more than {MAX_V2}")
    local = version == 0x20
    if not local:
        if family in _DATAGRAMS:
            raise ProxyHeaderError("it is for datagrams")
        if family not in _STREAMS:
            raise ProxyHeaderError(f"its family and transport are 0x{family:02x}, which is none")
        if length < _STREAMS[family]:
            raise ProxyHeaderError(f"its length is {length}, less than its addresses have")
    if len(data) < size:
        return None
    facts: dict[str, object] = {
        "version": 2, "command": "LOCAL" if local else "PROXY", "client": None, "server": None,
    }  # fmt: skip
    if local:  # the proxy's own connection: "the receiver must discard the protocol block", section 2.2
        return ProxyHeader(size, None, False, facts)
    header = bytes(data[:size])
    addresses: tuple[Address | None, Address] | None = None
    if family == 0x11:
        addresses = _binary_addresses(facts, socket.AF_INET, header, 4)
    elif family == 0x21:
        addresses = _binary_addresses(facts, socket.AF_INET6, header, 16)
    elif family == 0x31:
        path = _unix_path(header, _FIXED)
        facts["client"] = (path, None) if path else None
        server = facts["server"] = _unix_path(header, _FIXED + _UNIX_PATH), None
        addresses = None, server
    encrypted = proxy_tlvs.read(header, _FIXED + _STREAMS[family], facts)
    return ProxyHeader(size, addresses, encrypted, facts)


def _binary_addresses(facts: dict[str, object], family: int, header: bytes, length: int) -> tuple[Address, Address]:
    """Both addresses, of `length` bytes each, then both ports."""
    middle, end = _FIXED + length, _FIXED + 2 * length
    client = facts["client"] = (
        socket.inet_ntop(family, header[_FIXED:middle]),
        int.from_bytes(header[end : end + 2]),
    )
    server = facts["server"] = (
        socket.inet_ntop(family, header[middle:end]),
        int.from_bytes(header[end + 2 : end + 4]),
    )
    return client, server


def _unix_path(header: bytes, start: int) -> str:
    """Empty for a socket without a path, and for one in Linux's abstract namespace."""
    return header[start : start + _UNIX_PATH].partition(b"\0")[0].decode(errors="replace")
