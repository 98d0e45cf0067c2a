"""What drives both lanes of the reader with the same bytes, and where such bytes come from: legal requests, heads put
together from parts that are right and parts that are not, and the table of cases, mutated."""

from collections.abc import Callable, Iterable
from typing import Any

import h11
from hypothesis import strategies as st

from pounce.protocols.events import ProtocolError, Request
from pounce.protocols.h1.reader import HeadCache, Limits, RequestReader
from tests.support.cases import CASES

LIMITS = Limits(head=2000, fields=12, target=200, body=500)
"""Small, so that they are met."""


class SlowReader(RequestReader):
    """A reader without a fast lane."""

    __slots__ = ()

    def _read_fast(self, buffer: bytes, end: int) -> None:
        return None


type Reading = list[Any]
"""Requests with their content, then how it ended."""


def told(request: Request, content: bytes) -> dict[str, Any]:
    """All that a request says, with its content as far as it has come."""
    said = {name: getattr(request, name) for name in Request.__slots__}
    websocket = request.asks_for_websocket
    return {**said, "asks_for_websocket": websocket, "fields": list(request.fields), "content": content}


def read(segments: Iterable[bytes], *, fast: bool, memory: HeadCache | None = None, limits: Limits = LIMITS) -> Reading:
    """What a reader makes of these bytes."""
    reader = (RequestReader if fast else SlowReader)(limits, memory or HeadCache())
    got: Reading = []
    request: Request | None = None
    content = b""
    try:
        for segment in segments:
            if request is not None:
                reader.feed(segment)
                segment = b""
            while True:
                if request is None:  # bytes are handed over as a connection does it: some are known as a whole
                    request, content, segment = reader.next_request(segment), b"", b""
                if request is None:
                    break
                content += reader.read_body()
                if not reader.body_complete:
                    break
                got.append(told(request, content))
                request = None
    except ProtocolError as error:
        return [*got, ("refused", error.status)]
    if request is not None:
        return [*got, ("content awaited", told(request, content))]
    return [*got, ("head awaited", reader.has_partial_head)]


def pieces(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data`, cut at these places."""
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def without_status(reading: Reading) -> Reading:
    """Where several things are wrong, the one that came first decides, and that may depend on the pieces."""
    return [("refused",) if "refused" in one else one for one in reading]


def check(data: bytes, places: Iterable[int]) -> None:
    """Both lanes agree, in one piece and in several, with a fresh memory and one that has seen it all before; and
    h11 agrees with what they accept."""
    places = list(places)
    memory = HeadCache()
    whole = read([data], fast=False)
    assert read([data], fast=True, memory=memory) == whole, "the lanes do not agree"
    assert read([data], fast=True, memory=memory) == whole, "the memory says something else"
    cut = pieces(data, places)
    slow = read(cut, fast=False)
    assert read(cut, fast=True, memory=memory) == slow, "the lanes do not agree on the pieces"
    if "refused" in whole[-1] and "refused" in slow[-1]:
        assert without_status(slow) == without_status(whole), "the pieces decide"
    else:
        assert slow == whole, "the pieces decide"
    check_with_h11(data, whole)


def check_with_h11(data: bytes, reading: Reading) -> None:
    """What is accepted here, h11 accepts with the same result."""
    if b" ;" in data or b"\t;" in data:
        return  # blanks before a chunk's extension: a recipient must take them (RFC 9112, 7.1.1), h11 does not
    for one in reading[:-1]:
        while data.startswith(b"\r\n"):
            data = data[2:]
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        conn.receive_data(data)
        event = conn.next_event()
        assert isinstance(event, h11.Request)
        target = event.target
        if target.lower().startswith((b"http://", b"https://")):
            fields = [field for field in one["fields"] if field[0] != b"host"]
            headers = [field for field in event.headers if field[0] != b"host"]
            rest = target.partition(b"://")[2]
            slash = min((place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0), default=len(rest))
            if event.method == b"OPTIONS" and slash == len(rest):
                target = b"*"
            else:
                target = rest[slash:] if rest[slash : slash + 1] == b"/" else b"/" + rest[slash:]
        else:
            fields, headers = one["fields"], list(event.headers)
        assert event.method.decode() == one["method"]
        assert target.partition(b"?")[::2] == (one["path"], one["query"])
        assert ("1.0" if event.http_version == b"1.0" else "1.1") == one["version"]
        assert _folded(headers) == _folded(fields)
        came = b""
        while isinstance(event := conn.next_event(), h11.Data):
            came += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        assert came == one["content"]
        data = conn.trailing_data[0]


def _folded(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields]


# Where the bytes come from

METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"X-OWN", b"PRI", b"G T", b""]
TARGETS = [b"/", b"/a?b=c", b"/%41%zz", b"//a", b"*", b"http://b/c?d", b"https://b", b"http://u@b/", b"a:80", b"/#",
           b"/\xe4", b"/" + b"a" * 199, b"/" + b"a" * 200, b"/\x7f", b"?", b""]  # fmt: skip
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11.1", b""]
NAMES = [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade", b"X", b"X-Y",
         b"cookie", b"X ", b" X", b"\tX", b"", b"X\x00", b"\xe4", b"Content_Length", b"TE", b"Trailer"]  # fmt: skip
VALUES = [b"a", b"a:80", b"", b"0", b"5", b"05", b"5,5", b"+5", b"501", b"9" * 19, b"chunked", b"Chunked",
          b"chunked, identity", b"gzip, chunked", b"close", b"Close", b"keep-alive", b"keep-alive, close", b"upgrade",
          b"100-continue", b"100-Continue", b"websocket", b" \t a b\t", b"\xe4\xff", b"a\x00", b"a\x0b", b"a\x7f",
          b"a\r", b"a\nb", b"a\r\n b", b"[::1]", b"a@b", b"x" * 300,
          b"WebSocket", b"Keep-Alive, Upgrade"]  # fmt: skip
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b""]
COLONS = [b":", b": "] * 6 + [b" :", b"", b"\t: ", b"::"]
CONTENTS = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"1;a=b\r\nx\r\n0\r\n\r\n",
            b"5\r\nhel", b"1ff\r\n" + b"x" * 511 + b"\r\n", b"f" * 17, b"5 \r\nx\r\n0\r\n\r\n", b"\r\n"]  # fmt: skip
TOKENS = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"\x00", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0", b"5",
          b"\r\n\r\n", b"\r\n ", b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"close",
          b"Connection: close\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"chunked", b"GET / HTTP/1.1\r\n", b"HTTP/1.0",
          b'"', b"=", b"#", b"?", b"/", b"@", b"+", b"_", b"Expect: 100-continue\r\n", b"-",
          b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n"]  # fmt: skip

SEEDS = [case.data for case in CASES if len(case.data) <= 1500]


type Choose = Callable[[int], int]
"""Gives a number from 0 to one less than it is given: `Random.randrange`, or `Genome`."""


class Genome:
    """Choices that stand in a byte string, two bytes each; 0 after its end. One string is drawn by hypothesis ten
    times faster than what is made of it, and becomes simpler when it is shrunk."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def __call__(self, count: int) -> int:
        number = int.from_bytes(self._data[self._place : self._place + 2])
        self._place += 2
        return number % count


def head(choose: Choose) -> bytes:
    """A head of parts that are mostly right, and content that may be its own."""

    def one(parts: list[bytes]) -> bytes:
        return parts[choose(len(parts))]

    data = one(METHODS) + b" " + one(TARGETS) + b" " + one(VERSIONS) + one(ENDS)
    if choose(8) < 7:
        data += b"Host: a\r\n"
    for _ in range(choose(5)):
        data += one(NAMES) + one(COLONS) + one(VALUES) + one(ENDS)
    return data + one(ENDS) + one(CONTENTS)


def request(choose: Choose) -> bytes:
    """A legal request."""
    data = (b"GET ", b"POST ", b"HEAD ", b"X-OWN ")[choose(4)] + (b"/", b"/a?b", b"http://b/c")[choose(3)]
    data += b" HTTP/1.1\r\nHost: a\r\n"
    for _ in range(choose(4)):
        value = bytes(0x21 + choose(0xDF) for _ in range(choose(9))).replace(b"\x7f", b"")
        data += (b"X: ", b"x-y:", b"X-Y:\t")[choose(3)] + value + b"\r\n"
    framing = choose(4)
    if framing < 2:
        return data + b"\r\n"
    content = bytes(choose(256) for _ in range(choose(30)))
    if framing == 2:
        return data + b"Content-Length: %d\r\n\r\n" % len(content) + content
    size = 1 + choose(30)
    parts = [content[i : i + size] for i in range(0, len(content), size)]
    data += b"Transfer-Encoding: chunked\r\n\r\n"
    return data + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def edited(data: bytes, choose: Choose) -> bytes:
    """`data` with bytes put in, taken out, replaced or repeated."""
    kind, place, token = choose(4), choose(len(data) + 1), TOKENS[choose(len(TOKENS))]
    if kind == 0:
        return data[:place] + token + data[place:]
    if kind == 1:
        return data[:place] + data[place + 1 + choose(10) :]
    if kind == 2:
        return data[:place] + token + data[place + len(token) :]
    return data[: place + 1 + choose(10)] + data[place:]


def connection(choose: Choose) -> tuple[bytes, list[int]]:
    """The bytes of a connection, often with several requests, and where to cut them."""
    data = b""
    for _ in range((1, 1, 2, 3)[choose(4)]):
        kind = choose(4)
        data += request(choose) if kind == 0 else head(choose) if kind == 1 else SEEDS[choose(len(SEEDS))]
    for _ in range((0, 1, 1, 2, 3)[choose(5)]):
        data = edited(data, choose)
    return data, [choose(len(data) + 1) for _ in range(choose(5))]


CONNECTIONS = st.binary(max_size=160).map(lambda data: connection(Genome(data)))
