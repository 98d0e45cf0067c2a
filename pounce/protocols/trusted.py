"""Whose word is taken: the addresses of the proxies that may say who their client is.

An entry is an address, a network (10.0.0.0/8, 10.0.0.0/255.0.0.0, 2001:db8::/32), `unix` for whoever is at the other
end of a Unix socket, or, alone, `*` for everybody. The rules are those of uvicorn 0.54, with two exceptions. An IPv4
address that IPv6 has mapped (::ffff:10.0.0.1, RFC 4291 section 2.5.5.2) is also the IPv4 address, because that is how a
socket for both shows it. And a malformed entry is an error: uvicorn trusts nobody by it, and says nothing.

Must never look up a name. Owner: none; nothing here changes, and any thread may ask.
"""

from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton  # the import of `ipaddress` would take another MiB
from typing import NamedTuple

DEFAULT = ("127.0.0.1", "::1")
"""Trusted where the operator names nobody, as in uvicorn: whoever is on this machine."""

EVERYBODY = "*"
UNIX = "unix"
UNIX_IN_FIELDS = "unix:"
"""How nginx writes a client at a Unix socket into X-Forwarded-For."""

_MAPPED = bytes(10) + b"\xff\xff"
_BYTES = {AF_INET: 4, AF_INET6: 16}


class _Network(NamedTuple):
    size: int
    """Bytes of its addresses."""
    address: int
    mask: int


class TrustedPeers:
    __slots__ = ("_addresses", "_networks", "_texts", "all", "unix", "words")

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises ValueError, with a text that names the wrong entry."""
        entries = [entry for text in texts for entry in map(str.strip, text.split(",")) if entry]
        self.all = entries == [EVERYBODY]
        """Is everybody trusted?"""
        self.unix = self.all or UNIX in entries or UNIX_IN_FIELDS in entries
        """Is it trusted who is at the other end of a Unix socket?"""
        self._texts = frozenset(entries) | (frozenset((UNIX, UNIX_IN_FIELDS)) if self.unix else frozenset())
        addresses: set[tuple[bytes, str]] = set()
        self._networks: list[_Network] = []
        words: list[str] = []
        for entry in entries:
            if entry in (UNIX, UNIX_IN_FIELDS) or self.all:
                continue
            if entry == EVERYBODY:
                raise ValueError("'*' trusts everybody, so it has to stand alone")
            if "/" in entry:
                self._networks.append(_network(entry))
                continue
            address = _address(entry)
            if address is not None:
                addresses.add(_unmapped(*address) or address)
            elif _looks_like_address(entry):
                raise ValueError(f"{entry!r} is not an address")
            else:
                words.append(entry)
        self._addresses = frozenset(addresses)
        self.words = tuple(words)
        """Entries that are no addresses. No peer has one; a proxy may write it into a field for its client."""

    @classmethod
    def parse(cls, texts: str | Iterable[str]) -> "TrustedPeers":
        """Entries, each text one or several with commas between them. Raises ValueError, with a text that names the
        wrong one."""
        return cls((texts,) if isinstance(texts, str) else texts)

    def trusts(self, client: tuple[str, int | None] | None) -> bool:
        """Is this peer of a connection trusted? None is one at a Unix socket."""
        if client is None:
            return self.unix
        return self.all or self.trusts_host(client[0])

    def trusts_host(self, host: str) -> bool:
        """Is the one that a proxy gives by this text, without a port, trusted? Nobody is by an empty one."""
        if self.all or host in self._texts:
            return True
        address = _address(host)
        if address is None:
            return False
        unmapped = _unmapped(*address)
        return self._has(address) or (unmapped is not None and self._has(unmapped))

    def _has(self, address: tuple[bytes, str]) -> bool:
        if address in self._addresses:
            return True
        if not self._networks:
            return False
        packed = address[0]
        size, number = len(packed), int.from_bytes(packed)
        return any(number & net.mask == net.address and size == net.size for net in self._networks)


def _address(text: str) -> tuple[bytes, str] | None:
    """An address and its zone, which is empty where there is none (RFC 4007, section 11); None if it is no address."""
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text), ""
        address, percent, zone = text.partition("%")
        if percent and (not zone or "%" in zone):
            return None
        return inet_pton(AF_INET6, address), zone
    except (OSError, ValueError):  # ValueError: a NUL, or text that is not UTF-8
        return None


def _unmapped(packed: bytes, zone: str) -> tuple[bytes, str] | None:
    """The IPv4 address that this IPv6 address stands for; None if it stands for none."""
    return (packed[12:], "") if len(packed) == 16 and packed.startswith(_MAPPED) and not zone else None


def _network(entry: str) -> _Network:
    """Raises ValueError."""
    text, _, length = entry.partition("/")
    address = _address(text)
    if address is None or address[1]:
        raise ValueError(f"{entry!r} is not a network")
    packed = address[0]
    bits = 8 * len(packed)
    prefix = _prefix(length, bits)
    if prefix is None:
        raise ValueError(f"{entry!r} is not a network: a number of bits from 0 to {bits} follows the slash")
    if prefix >= 96 and _unmapped(*address) is not None:
        packed, prefix, bits = packed[12:], prefix - 96, 32
    number, mask = int.from_bytes(packed), ((1 << prefix) - 1) << (bits - prefix)
    if number & ~mask:
        family = AF_INET if bits == 32 else AF_INET6
        meant = inet_ntop(family, (number & mask).to_bytes(_BYTES[family]))
        raise ValueError(f"{entry!r} is an address in a network: the network is {meant}/{prefix}")
    return _Network(len(packed), number, mask)


def _prefix(text: str, bits: int) -> int | None:
    """The number of bits that the addresses of a network share; None if the text gives none."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 4 and int(text) <= bits else None
    mask = _address(text) if bits == 32 else None
    if mask is None or len(mask[0]) != 4:
        return None
    number = int.from_bytes(mask[0])
    free = number ^ 0xFFFFFFFF if number >> 31 else number  # as a netmask, or as a mask of the host's bits
    return None if free & (free + 1) else 32 - free.bit_length()


def _looks_like_address(entry: str) -> bool:
    """Is it meant for an address, or for several? A name is not, such as `localhost`."""
    return ":" in entry or entry[0].isdigit() or EVERYBODY in entry or len(entry.split()) > 1
