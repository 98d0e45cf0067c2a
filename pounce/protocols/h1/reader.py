"""Reads requests (RFC 9112, sections 2 to 7).

Strategy: two lanes. The fast lane reads the well-formed majority of heads by itself, and content of a known length.
Whatever it does not recognise (a method of one's own, an absolute target, chunks, anything odd) goes to an
`h11.Connection` made for that one request: h11 is the reference for what is legal. The fast lane accepts a strict
subset of what h11 accepts, with the identical result; `tests/test_lanes.py` drives both with the same bytes.

Clients say the same things again and again: everything after the request line is very often, to the byte, what came
before. So the fast lane remembers what it has read of it.

What RFC 9112 asks of a server and h11 leaves to the layer above it is in `check_head`, for both lanes.

Once `ProtocolError` is raised the reader is of no more use.
"""

import re

import h11

from pounce.fields import FIELD_NAME, Field
from pounce.protocols.events import ProtocolError, Request

HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]*)?")
"""uri-host [ ":" port ], RFC 9110 section 7.2 and RFC 3986 section 3.2.2."""

ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)([^#]*)")

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
"""What the fast lane knows; any token is a method (RFC 9110, section 9.1)."""

FIELD_BYTES = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
"""What may stand in a field line: HTAB, SP, VCHAR and obs-text (RFC 9110, section 5.5)."""

FRAMING = frozenset((b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"))
"""Fields that decide more than what the application sees."""


class Limits:
    """Bounds on what a client may send. Copied into every worker: see DESIGN.md, section 7."""

    __slots__ = ("body", "fields", "head", "target")

    def __init__(self, *, head: int = 65536, fields: int = 100, target: int = 8192, body: int | None = None) -> None:
        self.head = head
        """Bytes of the request line and all fields together."""
        self.fields = fields
        """Number of field lines."""
        self.target = target
        """Bytes of the request target."""
        self.body = body
        """Bytes of content; None is no bound."""


class Fields:
    """What the field lines of a head say."""

    __slots__ = ("content_length", "expects_continue", "keep_alive", "list")

    def __init__(self, fields: list[Field], *, keep_alive: bool, content_length: int, expects_continue: bool) -> None:
        self.list = fields
        self.keep_alive = keep_alive
        self.content_length = content_length
        self.expects_continue = expects_continue


class Memory:
    """Field lines that have been read before, and what they say. One for all connections of a worker.

    Bounded: so many blocks of lines, none of them longer than a browser's. When it is full it begins anew.
    """

    BLOCKS = 512
    LONGEST = 1024  # bytes
    NAMES = 1024

    __slots__ = ("blocks", "names")

    def __init__(self) -> None:
        self.blocks: dict[bytes, Fields] = {}
        self.names: dict[bytes, bytes] = {}
        """Field names as clients write them, and in lower case."""

    def keep(self, block: bytes, fields: Fields) -> None:
        if len(block) <= self.LONGEST:
            if len(self.blocks) >= self.BLOCKS:
                self.blocks.clear()
            self.blocks[block] = fields

    def learn(self, name: bytes) -> bytes | None:
        """The name in lower case; None if it is no field name."""
        if not FIELD_NAME.fullmatch(name):
            return None
        if len(self.names) >= self.NAMES:
            self.names.clear()
        lower = self.names[name] = name.lower()
        return lower


class RequestReader:
    """The requests of one connection, one after the other.

    `feed` bytes as they come; take the next head with `next_request`, then its content with `read_body` until
    `body_complete`, then the next head.
    """

    __slots__ = ("_body_read", "_buffer", "_h11", "_limits", "_memory", "_remaining", "body_complete")

    def __init__(self, limits: Limits, memory: Memory) -> None:
        self._limits = limits
        self._memory = memory
        self._buffer = b""
        self._h11: h11.Connection | None = None  # set while it reads content
        self._remaining = 0  # bytes of content that the fast lane still expects
        self._body_read = 0
        self.body_complete = True

    @property
    def pending(self) -> int:
        """Bytes that have been fed and belong to a later request."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        if self._h11 is not None:
            self._h11.receive_data(data)
        else:
            self._buffer = self._buffer + data if self._buffer else data

    # The head

    def next_request(self, data: bytes = b"") -> Request | None:
        """The next head, after `data` has been fed; None while it is not complete. Raises ProtocolError."""
        buffer = self._buffer
        if data:
            buffer = self._buffer = buffer + data if buffer else data
        elif not buffer:
            return None
        end = buffer.find(b"\r\n\r\n")
        if end > 0 and end <= self._limits.head:
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
        fields = self._memory.blocks.get(block)
        if fields is None:
            fields = self._read_fields(block)
            if fields is None:
                return None
        path, _, query = target.partition(b"?")
        length = self._remaining = fields.content_length
        self._buffer = buffer[end + 4 :]
        self.body_complete = not length
        if length and self._limits.body is not None and length > self._limits.body:
            raise ProtocolError(413, "the content is too large")
        name = METHODS[method]
        return Request(name, path, query, "1.1", fields.list.copy(), fields.keep_alive, length, fields.expects_continue)

    def _read_fields(self, block: bytes) -> Fields | None:
        """What field lines, each after a CR LF, say; None if they are not for this lane."""
        lines = block.split(b"\r\n")
        count = len(lines) - 1
        if count > self._limits.fields or block.translate(None, FIELD_BYTES) != b"\r\n" * count:
            return None  # too many, or with a control character, or with CR or LF alone
        names, learn = self._memory.names, self._memory.learn
        fields: list[Field] = []
        for place in range(1, count + 1):
            name, colon, value = lines[place].partition(b":")
            lower = names.get(name) or learn(name)
            if lower is None or not colon:
                return None
            fields.append((lower, value.strip(b" \t")))
        table = dict(fields)
        host = table.get(b"host")
        if host is None or not HOST.fullmatch(host):
            return None
        if len(table) < count and any(lower in FRAMING or lower == b"host" for lower in _repeated(fields)):
            return None
        read = Fields(fields, keep_alive=True, content_length=0, expects_continue=False)
        if not FRAMING.isdisjoint(table) and not _read_framing(read, table):
            return None
        self._memory.keep(block, read)
        return read

    # The slow lane

    def _read_slow(self) -> Request | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # section 2.2: robust against a client that sends CRLF after content
            buffer = self._buffer = buffer[2:]
        if not buffer:
            return None
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or end > self._limits.head:
            self._refuse_hopeless(buffer)
            return None
        head = buffer[: end + 4]
        self._refuse_large(head)
        if head.count(b"\n") != head.count(b"\r\n"):
            # Section 2.2 lets us take a lone LF for a line's end. Another server in front may not do so and see
            # other fields than we do, so we do not either.
            raise ProtocolError(400, "a line ends without CR LF")
        return self._ask_h11(buffer)

    def _refuse_hopeless(self, buffer: bytes) -> None:
        """Does not wait for the end of what cannot become a request any more."""
        if buffer[0] < 0x21:  # a TLS handshake begins with 0x16
            raise ProtocolError(400, "this is not HTTP; a TLS client on a cleartext port?")
        line = buffer.find(b"\r\n")
        if line < 0 and len(buffer) > self._limits.target + 64:  # a method and a version are not that long
            raise ProtocolError(414, "the request target is too long")
        if len(buffer) > self._limits.head:
            raise ProtocolError(431, "the request head is too large")
        if b"\n\n" in buffer or b"\n\r\n" in buffer:
            raise ProtocolError(400, "a line ends without CR LF")

    def _refuse_large(self, head: bytes) -> None:
        line = head[: head.find(b"\r\n")]
        if len(line) > self._limits.target:
            _, _, rest = line.partition(b" ")
            if len(rest) - len(b" HTTP/1.1") > self._limits.target:
                raise ProtocolError(414, "the request target is too long")
        if head.count(b"\n") - 2 > self._limits.fields:
            raise ProtocolError(431, "too many request fields")

    def _ask_h11(self, buffer: bytes) -> Request:
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
        conn.receive_data(buffer)
        try:
            event = conn.next_event()
        except h11.RemoteProtocolError as error:
            raise ProtocolError(*_explain(error, buffer)) from None
        assert isinstance(event, h11.Request)
        request = check_head(event.method, event.target, event.http_version, list(event.headers))
        if self._limits.body is not None and (request.content_length or 0) > self._limits.body:
            raise ProtocolError(413, "the content is too large")
        self._h11 = conn
        self._buffer = b""
        self._body_read = 0
        self.body_complete = False
        return request

    # The content

    def read_body(self) -> bytes:
        """Content that has come since the last call, empty if none has. Sets `body_complete` at its end.
        Raises ProtocolError."""
        if self._h11 is not None:
            return self._read_h11_body(self._h11)
        body, remaining = self._buffer, self._remaining
        if len(body) > remaining:
            self._buffer = body[remaining:]
            body = body[:remaining]
        else:
            self._buffer = b""
        self._remaining = remaining - len(body)
        self.body_complete = not self._remaining
        return body

    def _read_h11_body(self, conn: h11.Connection) -> bytes:
        parts: list[bytes] = []
        try:
            while isinstance(event := conn.next_event(), h11.Data):
                parts.append(bytes(event.data))
        except h11.RemoteProtocolError as error:
            raise ProtocolError(400, str(error)) from None
        if isinstance(event, h11.EndOfMessage):
            self.body_complete = True
            self._h11 = None
            self._buffer = conn.trailing_data[0]
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._body_read += len(body)
        if self._limits.body is not None and self._body_read > self._limits.body:
            raise ProtocolError(413, "the content is too large")
        return body


def _repeated(fields: list[Field]) -> set[bytes]:
    seen: set[bytes] = set()
    return {name for name, _ in fields if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _read_framing(read: Fields, table: dict[bytes, bytes]) -> bool:
    """Takes in what the framing fields say. False if it is not for the fast lane."""
    if b"transfer-encoding" in table or b"upgrade" in table:
        return False
    length = table.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 19:
            return False
        read.content_length = int(length)
    connection = table.get(b"connection")
    if connection is not None:
        connection = connection.lower()
        if connection not in (b"keep-alive", b"close"):
            return False
        read.keep_alive = connection == b"keep-alive"
    expect = table.get(b"expect")
    if expect is not None:
        if expect.lower() != b"100-continue":
            return False
        read.expects_continue = read.content_length > 0
    return True


def _explain(error: h11.RemoteProtocolError, buffer: bytes) -> tuple[int, str]:
    """h11's refusal as status and reason. It does not know versions above 1.1, which have a status of their own."""
    line = buffer[: buffer.find(b"\r\n")]
    if re.fullmatch(rb"\S+ \S+ HTTP/[0-9]+\.[0-9]+", line) and not line.endswith((b"/1.0", b"/1.1")):
        return 505, "only HTTP/1.1 and HTTP/1.0 are spoken here"
    return error.error_status_hint, str(error)


def check_head(method: bytes, target: bytes, version: bytes, fields: list[Field]) -> Request:
    """What a server must know of a head, and must refuse in it beyond its syntax. Raises ProtocolError.

    `fields` have lower-case names and legal values.
    """
    if not version.startswith(b"1."):
        raise ProtocolError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    modern = version != b"1.0"
    keep_alive = modern
    content_length = 0
    chunked = expects_continue = False
    hosts: list[bytes] = []
    for name, value in fields:
        if name == b"host":
            hosts.append(value)
        elif name == b"connection":
            options = [option.strip(b" \t") for option in value.lower().split(b",")]
            if b"close" in options:
                keep_alive = False
            elif not modern and b"keep-alive" in options:
                keep_alive = True
        elif name == b"content-length":
            content_length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"expect":
            expects_continue = modern and value.lower() == b"100-continue"
    if chunked and (not modern or any(name == b"content-length" for name, _ in fields)):
        # Section 6.1: with both, or from HTTP/1.0, somebody on the way may have seen another end of the message.
        raise ProtocolError(400, "the end of the content is given in two ways" if modern else "chunked HTTP/1.0")
    if modern and not hosts:
        raise ProtocolError(400, "no Host field")  # section 3.2
    if len(hosts) > 1 or (hosts and not HOST.fullmatch(hosts[0])):
        raise ProtocolError(400, "a Host field that is not one host")  # section 3.2
    if target[:1] != b"/":
        target = _other_form(method, target, fields)
    if b"#" in target:
        raise ProtocolError(400, "a fragment in the request target")  # RFC 9110 section 7.1: it is not sent
    path, _, query = target.partition(b"?")
    return Request(
        method.decode("ascii"),
        path,
        query,
        "1.1" if modern else "1.0",
        fields,
        keep_alive,
        None if chunked else content_length,
        expects_continue and (chunked or content_length > 0),
    )


def _other_form(method: bytes, target: bytes, fields: list[Field]) -> bytes:
    """The path and query of a target that does not begin with a slash (section 3.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = ABSOLUTE.fullmatch(target)
    if absolute and method != b"CONNECT":
        authority, rest = absolute.groups()
        if not authority or not HOST.fullmatch(authority):
            raise ProtocolError(400, "an absolute request target without a host")
        # Section 3.2.2: the target's authority counts, the Host field is ignored.
        fields[:] = [(b"host", authority), *(field for field in fields if field[0] != b"host")]
        return rest if rest.startswith(b"/") else b"/" + rest
    if method == b"CONNECT":
        raise ProtocolError(501, "this is not a proxy")
    raise ProtocolError(400, "a request target that is neither a path nor a URL")
