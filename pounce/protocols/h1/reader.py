"""Reads requests (RFC 9112, sections 2 to 7).

Strategy: two lanes. The fast lane reads the well-formed majority of heads by itself. Whatever it does not recognise
(a method of one's own, an absolute target, HTTP/1.0, anything odd) goes the slow way through `head`, which asks h11,
the reference for what is legal. The fast lane accepts a strict subset of what the slow one accepts, with the identical
result; `tests/protocols/test_h1_lanes.py` drives both with the same bytes. Content of a length is counted here, content
in chunks is read by `chunks`, whichever lane has read the head.

Clients say the same things again and again: everything after the request line is very often, to the byte, what came
before. So the fast lane remembers what it has read of it.

Once `ProtocolError` is raised the reader is of no more use.
"""

import re

from pounce.protocols.events import ProtocolError, Request, WebSocketRequest
from pounce.protocols.fields import FIELD_NAME, Field
from pounce.protocols.h1.chunks import ChunkedContent
from pounce.protocols.h1.head import FIELD_BYTES, check_line, is_host, read_head, refuse_hopeless
from pounce.protocols.h1.head import Limits as Limits

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
"""What the fast lane knows; any token is a method (RFC 9110, section 9.1)."""

FRAMING = frozenset((b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"))
"""Fields that decide more than what the application sees."""


EMPTY_LINES = re.compile(rb"(?:\r\n){0,8}")
"""What is ignored before a request line; a few of them, as nobody means well who sends more."""

CHUNKED = -1
"""In place of a length."""


class Fields:
    """What the field lines of a head say."""

    __slots__ = ("content_length", "expects_continue", "keep_alive", "kind", "list")

    def __init__(self, fields: list[Field]) -> None:
        self.list = fields
        self.keep_alive = True
        self.content_length = 0
        self.expects_continue = False
        self.kind = Request


class HeadCache:
    """Heads and blocks of field lines that have been read before, and what they say. One for all connections of a
    worker.

    A client says the same again and again: the same field lines with every request, often for the same target. To
    know a short head as a whole takes 1.4 us off a request's 7.6 in Python (3.14), and 3.3 off 18.9 (3.13t).

    Bounded: so many heads, so many blocks, none of them longer than a browser's. When it is full it begins anew.
    """

    HEADS = 512
    BLOCKS = 512
    LONGEST = 1024  # bytes
    NAMES = 1024
    LONGEST_NAME = 64  # bytes: what a stranger makes us remember is bounded too

    __slots__ = ("blocks", "heads", "names")

    def __init__(self) -> None:
        self.heads: dict[bytes, Request] = {}
        """Whole heads of requests without content."""
        self.blocks: dict[bytes, Fields] = {}
        self.names: dict[bytes, bytes] = {}
        """Field names as clients write them, and in lower case."""

    def store_head(self, head: bytes, request: Request) -> None:
        if len(head) <= self.LONGEST:
            if len(self.heads) >= self.HEADS:
                self.heads.clear()
            self.heads[head] = request

    def keep(self, block: bytes, fields: Fields) -> None:
        if len(block) <= self.LONGEST:
            if len(self.blocks) >= self.BLOCKS:
                self.blocks.clear()
            self.blocks[block] = fields

    def learn(self, name: bytes) -> bytes | None:
        """The name in lower case; None if it is no field name."""
        if not FIELD_NAME.fullmatch(name):
            return None
        lower = name.lower()
        if len(name) <= self.LONGEST_NAME:
            if len(self.names) >= self.NAMES:
                self.names.clear()
            self.names[name] = lower
        return lower


class RequestReader:
    """The requests of one connection, one after the other.

    `feed` bytes as they come; take the next head with `next_request`, then its content with `read_body` until
    `body_complete`, then the next head.
    """

    __slots__ = ("_cache", "_chunks", "_limits", "_line_read", "_remaining", "_searched", "body_complete", "buffer")

    def __init__(self, limits: Limits, cache: HeadCache) -> None:
        self._limits = limits
        self._cache = cache
        self.buffer = b""
        """What has been fed and not yet taken out."""
        # A head may come byte by byte, and each must not cost a look at all that came before it.
        self._searched = 0  # where to go on looking for the end of a head that has has_partial_head
        self._line_read = False  # has its request line come, and been checked?
        self._chunks: ChunkedContent | None = None  # while content comes in chunks
        self._remaining = 0  # bytes of other content still to come
        self.body_complete = True
        """Has all content of the last request been given? Nothing may follow a request for a WebSocket until it is
        answered, so that of a request for another protocol is never complete at first. That is what makes the
        connection look at it twice, and at no other."""

    @property
    def pending(self) -> int:
        """Bytes that have been fed and belong to a later request, or to the empty lines before it."""
        return len(self.buffer)

    @property
    def has_partial_head(self) -> bool:
        """Is there more than empty lines of a later request?"""
        return self.buffer.strip(b"\r\n") != b""

    @property
    def wants_head_only(self) -> bool:
        """Does the request that has just been refused allow no content in its answer?"""
        return self.buffer.lstrip(b"\r\n").startswith(b"HEAD ")

    def feed(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data

    # The head

    def next_request(self, data: bytes = b"") -> Request | None:
        """The next head, after `data` has been fed; None while it is not complete. Raises ProtocolError."""
        buffer = self.buffer
        if not buffer:
            known = self._cache.heads.get(data)
            if known is not None:
                return known
            if not data:
                return None
            buffer = self.buffer = data
        elif data:
            buffer = self.buffer = buffer + data
        searched = self._searched
        end = buffer.find(b"\r\n\r\n", searched)
        if end > 0 and end <= self._limits.head:
            if searched:
                self._searched = 0
                self._line_read = False
            request = self._read_fast(buffer, end)
            if request is not None:
                return request
        return self._read_slow()

    # The fast lane

    def _read_fast(self, buffer: bytes, end: int) -> Request | None:
        """The head that ends at `end`; None if it is not for this lane."""
        line_end = buffer.find(b"\r\n")
        line = buffer[:line_end].split(b" ")
        if len(line) != 3:
            return None
        method, target, version = line
        # Not METHODS.get: on 3.13t that takes 26 us where another thread has made the keys, as the main thread has.
        if method not in METHODS or version != b"HTTP/1.1" or not target.isascii() or len(target) > self._limits.target:
            return None
        text = target.decode("ascii")
        if not text.isprintable() or text[:1] != "/" or "#" in text:
            return None
        block = buffer[line_end:end]
        fields = self._cache.blocks.get(block)
        if fields is None:
            fields = self._read_fields(block)
            if fields is None:
                return None
        path, _, query = target.partition(b"?")
        length: int | None = fields.content_length
        self.body_complete = not fields.kind.asks_for_upgrade
        if length:
            length = self._begin_content(length)
        self.buffer = buffer[end + 4 :]
        name = METHODS[method]
        request = fields.kind(name, path, query, "1.1", fields.list, fields.keep_alive, length, fields.expects_continue)
        if self.body_complete and not self.buffer:
            self._cache.store_head(buffer, request)
        return request

    def _begin_content(self, length: int) -> int | None:
        if length == CHUNKED:
            self._begin_chunks()
            return None
        if self._limits.body is not None and length > self._limits.body:
            raise ProtocolError(413, "the content is too large")
        self._remaining = length
        self.body_complete = False
        return length

    def _read_fields(self, block: bytes) -> Fields | None:
        """What field lines, each after a CR LF, say; None if they are not for this lane."""
        lines = block.split(b"\r\n")
        count = len(lines) - 1
        if count > self._limits.fields or block.translate(None, FIELD_BYTES) != b"\r\n" * count:
            return None  # too many, or with a control character, or with CR or LF alone
        names, learn = self._cache.names, self._cache.learn
        fields: list[Field] = []
        for place in range(1, count + 1):
            name, colon, value = lines[place].partition(b":")
            lower = names.get(name) or learn(name)
            if lower is None or not colon:
                return None
            fields.append((lower, value.strip(b" \t")))
        table = dict(fields)
        host = table.get(b"host")
        if host is None or not is_host(host):
            return None
        if len(table) < count and any(lower in FRAMING or lower == b"host" for lower in _repeated(fields)):
            return None
        read = Fields(fields)
        if not FRAMING.isdisjoint(table) and not _read_framing(read, table):
            return None
        if read.kind is Request:  # a handshake's key is a new one each time
            self._cache.keep(block, read)
        return read

    # The slow lane

    def _read_slow(self) -> Request | None:
        buffer = self.buffer
        if buffer[0] == 0x0D:  # section 2.2: robust against a client that sends CRLF after content
            # They stay in the buffer until a request comes, so that they have a deadline and a bound.
            buffer = buffer[EMPTY_LINES.match(buffer).end() :]  # type: ignore[union-attr]
            if buffer in (b"", b"\r"):
                return None
            self.buffer = buffer
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end < 0 or end > self._limits.head:
            if not self._line_read:
                self._line_read = check_line(buffer, self._limits, self._searched)
            refuse_hopeless(buffer, self._limits, self._searched)
            self._searched = max(0, len(buffer) - 3)  # the end may have come in part
            return None
        end += 4
        request = read_head(buffer[:end], self._limits)
        if request.content_length is None:
            self._begin_chunks()
        else:
            self._remaining = request.content_length
            self.body_complete = not self._remaining and not request.asks_for_upgrade
        self.buffer = buffer[end:]
        return request

    def take_buffered(self) -> bytes:
        """What has come behind the last request, for another protocol to read."""
        rest, self.buffer = self.buffer, b""
        return rest

    # The content

    def _begin_chunks(self) -> None:
        limits = self._limits
        self._chunks = ChunkedContent(body=limits.body, head=limits.head, fields=limits.fields)
        self.body_complete = False

    def read_body(self) -> bytes:
        """Content that has come since the last call, empty if none has. Sets `body_complete` at its end.
        Raises ProtocolError."""
        chunks = self._chunks
        if chunks is not None:
            body, self.buffer = chunks.read(self.buffer)
            if chunks.complete:
                self.body_complete = True
                self._chunks = None
            return body
        body, remaining = self.buffer, self._remaining
        if len(body) > remaining:
            self.buffer = body[remaining:]
            body = body[:remaining]
        else:
            self.buffer = b""
        self._remaining = remaining - len(body)
        self.body_complete = not self._remaining
        return body


def _repeated(fields: list[Field]) -> set[bytes]:
    seen: set[bytes] = set()
    return {name for name, _ in fields if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _read_framing(read: Fields, table: dict[bytes, bytes]) -> bool:
    """Takes in what the framing fields say. False if it is not for the fast lane."""
    upgrade = table.get(b"upgrade")
    if upgrade is not None and (
        upgrade.lower() != b"websocket" or b"content-length" in table or b"transfer-encoding" in table
    ):
        return False
    length = table.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 18 or b"transfer-encoding" in table:
            return False
        read.content_length = int(length)
    elif b"transfer-encoding" in table:
        if table[b"transfer-encoding"] != b"chunked":
            return False
        read.content_length = CHUNKED
    connection = table.get(b"connection")
    if connection is not None:
        connection = connection.lower()
        if upgrade is not None and connection in (b"upgrade", b"keep-alive, upgrade"):
            read.kind = WebSocketRequest
        elif connection not in (b"keep-alive", b"close"):
            return False
        read.keep_alive = connection != b"close"
    expect = table.get(b"expect")
    if expect is not None:
        if expect.lower() != b"100-continue":
            return False
        read.expects_continue = read.content_length != 0
    return True
