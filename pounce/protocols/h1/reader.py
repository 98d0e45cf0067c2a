"""The reader of requests (RFC 9112, sections 2 to 7).

Strategy: two lanes. The fast lane reads the well-formed majority of heads. Whatever it does not recognise (an unusual
method, an absolute target, HTTP/1.0, odd white space) is read by the slow lane, `head`, with h11 as the reference for
what is legal. The fast lane accepts a strict subset of what the slow one accepts, with the identical result;
`tests/protocols/test_h1_lanes.py` drives both with the same bytes. Content with a length is counted here, content in
chunks is read by `chunks`, whichever lane has read the head.

Clients repeat themselves: the field lines of a request are very often byte for byte those of an earlier one. So the
fast lane has a cache of heads and of blocks of field lines.

Must never accept in the fast lane what the reference rejects. After a `ProtocolError` the reader cannot be used again.

Owner: the thread of the connection. The cache belongs to the worker, and so to the same thread.
"""

import re

from pounce.protocols.events import ProtocolError, Request, WebSocketRequest
from pounce.protocols.fields import FIELD_NAME, Field, is_host
from pounce.protocols.forwarding import NAMES as FORWARDING
from pounce.protocols.h1.chunks import ChunkedContent
from pounce.protocols.h1.head import FIELD_BYTES, check_line, read_head, reject_early
from pounce.protocols.h1.head import Limits as Limits

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
"""The methods of the fast lane. Any token is a method (RFC 9110, section 9.1)."""

FRAMING = frozenset((b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"))
"""Fields that the server itself acts on."""


EMPTY_LINES = re.compile(rb"(?:\r\n){0,8}")
"""Ignored before a request line (section 2.2). No more than a few, as only a hostile client sends many."""

CHUNKED = -1
"""Stands for a length."""


class Fields:
    """The field lines of a head, and what follows from them."""

    __slots__ = ("content_length", "expects_continue", "forwarding", "keep_alive", "kind", "list")

    def __init__(self, fields: list[Field]) -> None:
        self.list = fields
        self.keep_alive = True
        self.content_length = 0
        self.expects_continue = False
        self.forwarding: tuple[Field, ...] = ()
        self.kind = Request


class HeadCache:
    """A cache of heads and of blocks of field lines that have been read before. One for all connections of a worker.

    A client sends the same field lines with every request, often for the same target. Finding a short head as a whole
    takes 1.4 us off a request's 7.6 in Python (3.14), and 3.3 off 18.9 (3.13t).

    Bounded in the number of entries and in the size of each. When it is full it is cleared.
    """

    MAX_HEADS = 512
    MAX_BLOCKS = 512
    MAX_SIZE = 1024  # bytes of a head or a block: a browser's fit in
    MAX_NAMES = 1024
    MAX_NAME = 64  # bytes: clients choose the names

    __slots__ = ("blocks", "has_forwarding", "heads", "names")

    def __init__(self) -> None:
        self.heads: dict[bytes, Request] = {}
        """Whole heads of requests without content."""
        self.blocks: dict[bytes, Fields] = {}
        self.names: dict[bytes, bytes] = {}
        """Field names as clients write them, with their lower case."""
        self.has_forwarding = False
        """Has a name of FORWARDING ever been read? Until then no head has to be searched for one."""

    def store_head(self, head: bytes, request: Request) -> None:
        if len(head) <= self.MAX_SIZE:
            if len(self.heads) >= self.MAX_HEADS:
                self.heads.clear()
            self.heads[head] = request

    def store_block(self, block: bytes, fields: Fields) -> None:
        if len(block) <= self.MAX_SIZE:
            if len(self.blocks) >= self.MAX_BLOCKS:
                self.blocks.clear()
            self.blocks[block] = fields

    def field_name(self, name: bytes) -> bytes | None:
        """The name in lower case; None if it is no field name."""
        if not FIELD_NAME.fullmatch(name):
            return None
        lower = name.lower()
        if lower in FORWARDING:
            self.has_forwarding = True
        if len(name) <= self.MAX_NAME:
            if len(self.names) >= self.MAX_NAMES:
                self.names.clear()
            self.names[name] = lower
        return lower


class RequestReader:
    """The requests of one connection, one after the other.

    `feed` it the bytes that are received. Take the next head with `next_request`, then its content with `read_body`
    until `body_complete`, then the next head.
    """

    __slots__ = ("_cache", "_chunks", "_limits", "_line_checked", "_remaining", "_searched", "body_complete", "buffer")

    def __init__(self, limits: Limits, cache: HeadCache) -> None:
        self._limits = limits
        self._cache = cache
        self.buffer = b""
        """Bytes that have been fed and not yet taken."""
        # A head may arrive byte by byte, and no byte may cost a search of all the bytes before it.
        self._searched = 0  # where to continue the search for the end of a partial head
        self._line_checked = False  # is its request line complete and checked?
        self._chunks: ChunkedContent | None = None  # while content arrives in chunks
        self._remaining = 0  # bytes of other content still to come
        self.body_complete = True
        """Has all content of the last request been taken? Never true at first for a request that asks for another
        protocol, because nothing may follow it until it is answered. So the connection handles it apart from the
        others."""

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
        """Must the response to the request that has just been rejected have no content?"""
        return self.buffer.lstrip(b"\r\n").startswith(b"HEAD ")

    def feed(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data

    # The head

    def next_request(self, data: bytes = b"") -> Request | None:
        """The next head, after `data` has been fed; None while it is not complete. Raises ProtocolError."""
        buffer = self.buffer
        if not buffer:
            cached = self._cache.heads.get(data)
            if cached is not None:
                return cached
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
                self._line_checked = False
            request = self._read_fast(buffer, end)
            if request is not None:
                return request
        return self._read_slow()

    # The fast lane

    def _read_fast(self, buffer: bytes, end: int) -> Request | None:
        """The head that ends at `end`; None if this lane does not read it."""
        line_end = buffer.find(b"\r\n")
        line = buffer[:line_end].split(b" ")
        if len(line) != 3:
            return None
        method, target, version = line
        # Not METHODS.get: on 3.13t that takes 26 us if another thread has made the keys, as the main thread has.
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
        request = fields.kind(
            name, path, query, "1.1", fields.list, fields.keep_alive, length, fields.expects_continue, fields.forwarding
        )
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
        """A block of field lines, each after a CR LF; None if this lane does not read it."""
        lines = block.split(b"\r\n")
        count = len(lines) - 1
        if count > self._limits.fields or block.translate(None, FIELD_BYTES) != b"\r\n" * count:
            return None  # too many, or with a control character, or with CR or LF alone
        names, field_name = self._cache.names, self._cache.field_name
        fields: list[Field] = []
        for index in range(1, count + 1):
            name, colon, value = lines[index].partition(b":")
            lower = names.get(name) or field_name(name)
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
        if self._cache.has_forwarding and not FORWARDING.isdisjoint(table):
            read.forwarding = tuple([field for field in fields if field[0] in FORWARDING])
        if read.kind is Request:  # the key of a WebSocket handshake is new each time
            self._cache.store_block(block, read)
        return read

    # The slow lane

    def _read_slow(self) -> Request | None:
        buffer = self.buffer
        if buffer[0] == 0x0D:  # section 2.2: some clients send CR LF after content
            # The empty lines stay in the buffer until a request comes, so that they have a deadline and a bound.
            buffer = buffer[EMPTY_LINES.match(buffer).end() :]  # type: ignore[union-attr]
            if buffer in (b"", b"\r"):
                return None
            self.buffer = buffer
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end < 0 or end > self._limits.head:
            if not self._line_checked:
                self._line_checked = check_line(buffer, self._limits, self._searched)
            reject_early(buffer, self._limits, self._searched)
            self._searched = max(0, len(buffer) - 3)  # a part of the end may have arrived
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
        """The bytes after the last request, for another protocol."""
        rest, self.buffer = self.buffer, b""
        return rest

    # The content

    def _begin_chunks(self) -> None:
        limits = self._limits
        self._chunks = ChunkedContent(body=limits.body, head=limits.head, fields=limits.fields)
        self.body_complete = False

    def read_body(self) -> bytes:
        """Content that has arrived since the last call, perhaps none. Sets `body_complete` at its end. Raises
        ProtocolError."""
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
    """Sets what follows from the framing fields. False if the fast lane does not read them."""
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
