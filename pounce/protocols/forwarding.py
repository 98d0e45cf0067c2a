"""The fields in which proxies say who their client is, and how the X-Forwarded ones are read.

What a proxy writes stands to the right of what it was given, so a list is read from the right, as far as whoever has
written an entry is trusted. X-Forwarded-For and X-Forwarded-Proto are read as uvicorn 0.54 reads them; a property test
drives both with the same bytes. The `Forwarded` field is read by `forwarded_field`.

Must never raise, whatever the bytes are. Owner: none; nothing here is kept.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from pounce.protocols.events import percent_decoded
from pounce.protocols.fields import Field, is_host
from pounce.protocols.trusted import TrustedPeers

FOR, PROTO, HOST, PREFIX = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix")

SCHEMES = frozenset(("http", "https", "ws", "wss"))

MAX_PORT = 65535


class Forwarded(NamedTuple):
    """What the fields of one request say of its client. None: nothing, or nothing that can be used."""

    client: tuple[str, int] | None = None
    """Its address, or what stands for one, and its port, 0 where that is not known."""
    scheme: str | None = None
    host: bytes | None = None
    """The Host field of the client's request."""
    prefix: bytes | None = None
    """The path that a proxy has taken away from the client's, percent-encoded, without a slash at its end."""
    root_path: str | None = None
    """The same as text."""


def read_x_forwarded(fields: Sequence[Field], trusted: TrustedPeers, *, host: bool, prefix: bool) -> Forwarded:
    """`host` and `prefix`: are these wanted? `fields` are of a request whose peer is trusted."""
    chain: list[bytes] = []
    proto = forwarded_host = forwarded_prefix = None
    for name, value in fields:  # of those that may be there only once, the last is the nearest proxy's
        if name == FOR:
            chain.append(value)
        elif name == PROTO:
            proto = value
        elif name == HOST:
            forwarded_host = value
        elif name == PREFIX:
            forwarded_prefix = value
    scheme = proto.decode("latin-1").strip() if proto is not None else None
    path, text = _prefix(forwarded_prefix) if prefix and forwarded_prefix is not None else (None, None)
    return Forwarded(
        _client(chain, trusted) if chain else None,
        scheme if scheme in SCHEMES else None,
        _host(forwarded_host) if host and forwarded_host is not None else None,
        path,
        text,
    )


def _client(lines: Sequence[bytes], trusted: TrustedPeers) -> tuple[str, int] | None:
    """The first from the right that is not trusted; the leftmost where all are."""
    text = b",".join(lines).decode("latin-1")
    if trusted.all:
        client = host_and_port(text.partition(",")[0].strip())
    else:
        end = len(text)
        while True:  # backwards by index: a client may send ten thousand entries
            comma = text.rfind(",", 0, end)
            client = host_and_port(text[comma + 1 : end].strip())
            if comma < 0 or not trusted.trusts_host(client[0]):
                break
            end = comma
    return client if client[0] else None


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of HOST, HOST:PORT or [HOST]:PORT. A port that is none is 0. What has another form is not taken apart:
    what it is compared with must not be a part of it."""
    if text[:1] == "[":
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            return text, 0
        return host, _port(rest[1:]) or 0
    host, colon, digits = text.partition(":")
    if not colon or ":" in digits:  # without a port, or IPv6
        return text, 0
    port = _port(digits)
    return (text, 0) if port is None else (host, port)


def _port(text: str) -> int | None:
    """None where it is no number."""
    try:
        port = int(text)
    except ValueError:
        return None
    return port if 0 <= port <= MAX_PORT else 0


def _host(value: bytes) -> bytes | None:
    """Some proxies add to this field what they have been sent as Host: the last is the nearest proxy's."""
    value = value.rpartition(b",")[2].strip(b" \t")
    return value if value and is_host(value) else None


def _prefix(value: bytes) -> tuple[bytes | None, str | None]:
    """A path, of segments that are neither empty nor relative: applications put it before the targets of their
    redirects, where //name would be another host."""
    if value[:1] != b"/" or not _PATH_BYTES.issuperset(value):
        return None, None
    value = value.rstrip(b"/")
    text = percent_decoded(value)
    if not text.isprintable() or "\\" in text or not _NO_SEGMENT.isdisjoint(text.split("/")[1:]):
        return None, None
    return value, text


_PATH_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+;=:@%/")
"""Those of a path (RFC 3986, section 3.3), but for the comma: it would be a list, of which none is the path."""

_NO_SEGMENT = frozenset(("", ".", ".."))


def _twins(name: bytes) -> set[bytes]:
    parts = name.split(b"-")
    return {
        b"".join(part + mark for part, mark in zip(parts, (*marks, b""), strict=True))
        for marks in product((b"-", b"_"), repeat=len(parts) - 1)
        if b"_" in marks
    }


UNDERSCORE_TWINS = frozenset(twin for name in (FOR, PROTO, HOST, PREFIX) for twin in _twins(name))
"""The names that are one of these with an underscore for a hyphen. A gateway to WSGI or CGI makes one variable of both
names. No proxy writes such a field, so it can only be a client's that wants to be taken for another."""

NAMES = frozenset((b"forwarded", FOR, PROTO, HOST, PREFIX)) | UNDERSCORE_TWINS
"""The names of all fields that this module is about."""
