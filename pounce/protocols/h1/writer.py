"""The writer of responses (RFC 9112, sections 4 and 6).

The head of a response is held until the application sends the first part of the content. So head and content leave in
one system call, and a response that is complete at once gets a length instead of chunks. Equal heads are checked
(`protocols.response`) and encoded once.

Must never write a byte of a response that has failed a check: until its head has left, it can be replaced by another.

Owner: the thread of the connection. The cache belongs to the worker, and so to the same thread.
"""

import contextlib
import http
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.fields import Field
from pounce.protocols.response import ResponseHead, checked, checked_trailers

logger = logging.getLogger("pounce.error")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CRLF = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
SMALL = 8192
"""Bytes. Content up to this size is copied behind its head, which takes less time than a system call with two
buffers."""


def status_line(status: int) -> bytes:
    status = int(status)  # members of enumerations format themselves in various ways
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # section 4: the phrase may be empty, the space before it is required
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


def write_fields(fields: Iterable[Field]) -> bytes:
    """The field lines of an application's fields. Raises ApplicationError for an illegal field."""
    lines = bytearray()
    for name, value in fields:
        lines += b"%b: %b\r\n" % checked(name, value)
    return bytes(lines)


class EncodedHead:
    """A checked head in the form of HTTP/1, but for the framing, which may differ between its responses."""

    __slots__ = (
        "bodiless",
        "close",
        "defaults",
        "event_stream",
        "head",
        "length",
        "line",
        "lines",
        "names",
        "overrides",
        "status",
    )

    def __init__(self, checked: ResponseHead, line: bytes) -> None:
        self.status = checked.status
        self.bodiless = checked.bodiless
        self.close = checked.close
        self.event_stream = checked.event_stream
        self.length = checked.length
        self.overrides = checked.overrides
        self.line = line
        self.lines = b"".join([b"%b: %b\r\n" % field for field in checked.fields])
        self.names: frozenset[bytes] | None = None
        """Of its fields, in lower case; None until somebody asks."""
        self.head = b""
        """Everything but the framing, with the server's own field lines as in `defaults`."""
        self.defaults: bytes | None = None
        """The server's lines in `head`. They are the same object for a second, so their identity tells whether `head`
        is up to date."""

    def has(self, name: bytes) -> bool:
        """Has it a field of this name?"""
        if self.names is None:
            self.names = frozenset(line.partition(b":")[0].lower() for line in self.lines.split(CRLF))
        return name in self.names

    def set_defaults(self, defaults: bytes) -> None:
        self.defaults = defaults
        if self.overrides:
            lines = defaults.splitlines(keepends=True)
            defaults = b"".join(line for line in lines if line[: line.find(b":")] not in self.overrides)
        self.head = self.line + defaults + self.lines


class ResponseCache:
    """A cache of the heads of a worker's responses, because applications repeat them. Cleared when it is full."""

    MAX_HEADS = 512
    MAX_SIZE = 1024  # bytes of field lines
    MAX_ROUTES = 64
    __slots__ = ("_lines", "_routes", "heads")

    def __init__(self) -> None:
        self._routes: set[tuple[str, bytes]] = set()  # for which a warning has been logged
        self._lines: dict[int, bytes] = {}
        self.heads: dict[tuple[Any, ...], EncodedHead] = {}
        """By status and fields."""

    def add(self, key: tuple[Any, ...]) -> EncodedHead:
        """The head of a response that is not in the cache; `key` is its status and then its fields. Raises
        ApplicationError."""
        checked = ResponseHead(key[0], key[1:])
        line = self._lines.get(checked.status)
        if line is None:
            line = self._lines[checked.status] = status_line(checked.status)
        head = EncodedHead(checked, line)
        if len(head.lines) <= self.MAX_SIZE:
            if len(self.heads) >= self.MAX_HEADS:
                self.heads.clear()
            with contextlib.suppress(TypeError):  # pairs that are lists: legal, but not hashable
                self.heads[key] = head
        return head

    def warn(self, request: Request, what: str) -> None:
        """Logs that content which cannot be sent was left out: once for each route, up to MAX_ROUTES."""
        route = request.method, request.path
        if route not in self._routes and len(self._routes) < self.MAX_ROUTES:
            self._routes.add(route)
            logger.warning("%s %s: %s.", request.method, request.path.decode("ascii"), what)


class ResponseWriter:
    """The responses of one connection, one after the other.

    `start` it with the request that is answered, then send `body` until `more` is false, then `trailers` if they were
    announced. `keep_alive` is true as long as another request may follow on the connection. The connection may set it
    to false before the first part of the content.
    """

    __slots__ = (
        "_cache",
        "_chunked",
        "_defaults",
        "_event_stream",
        "_remaining",
        "_request",
        "_sends_trailers",
        "_special",
        "added",
        "awaits_trailers",
        "bodiless",
        "held",
        "keep_alive",
    )  # fmt: skip

    def __init__(self, cache: ResponseCache, defaults: Callable[[], bytes]) -> None:
        """`defaults` returns the field lines that the server adds (Server, Date)."""
        self._cache = cache
        self._defaults = defaults
        self._request = UNREADABLE
        self.held: EncodedHead | None = None
        """The head, until the first part of the content."""
        self._remaining: int | None = None  # bytes of Content-Length that have not been sent
        self._chunked = False
        self._event_stream = False  # of the last response whose head was sent before its whole content
        self.awaits_trailers = False
        self._sends_trailers = False  # does the client accept the trailers that were announced?
        self.bodiless = False
        """Must the response have no content, whatever the application sends (RFC 9110, section 6.4.1)?"""
        self.keep_alive = False
        self.added: Field | None = None
        """A field of the server's own, for the next head that is written."""
        self._special = (
            False  # does the framing depend on anything else? One flag, because it is read for every response
        )

    def add_field(self, name: bytes, value: bytes) -> None:
        """Adds a legal field to the next head, unless that has it already. `name` is in lower case."""
        self.added = (name, value)
        self._special = True

    def start(self, request: Request, status: object, fields: Iterable[Field], trailers: bool = False) -> None:
        """Begins a response. Raises ApplicationError for an illegal status or field."""
        key = (status, *fields)
        try:
            held = self._cache.heads.get(key)
        except TypeError:
            held = None
        if held is None:
            held = self._cache.add(key)
        self._request = request
        self.held = held
        self.keep_alive = request.keep_alive and not held.close
        special = trailers or request.special or held.bodiless
        if special or self._special:  # else the last response has left the right values
            self._special = special or self.added is not None
            self.awaits_trailers = trailers
            self._sends_trailers = trailers and _takes_trailers(request)
            self.bodiless = request.method == "HEAD" or held.bodiless

    def body(self, data: bytes, more: bool) -> Sequence[bytes]:
        """The bytes to send for a part of the content, with the head before the first part. Raises ApplicationError if
        the content does not fit its Content-Length; then nothing has changed, and a response whose head is still held
        can be replaced by another."""
        size = len(data)
        held = self.held
        if held is None:
            return self._more(data, size, more)
        defaults = self._defaults()
        if defaults is not held.defaults:
            held.set_defaults(defaults)
        if more or self._special or not self.keep_alive:
            framing = self._framing(held, size, more)
        else:
            if held.length is None:
                framing = b"content-length: %d\r\n\r\n" % size
            elif held.length == size:
                framing = CRLF
            else:
                raise _wrong_length(held.length, size)
            self._chunked = False
            self._remaining = 0
        self.held = None
        if self._chunked or self.bodiless or size > SMALL:
            return (held.head + framing, *self._frame(data, size, more))
        return (held.head + framing + data,)

    def file(self, size: int) -> tuple[bytes, int, bytes]:
        """For a file of `size` bytes that is the whole content: the bytes to send before it, the number of its bytes to
        send, and the bytes to send after it. A file that has grown since the application read its length, as logs do,
        is sent up to that length. Raises ApplicationError if it is shorter."""
        held = self.held
        if self.awaits_trailers:
            raise ApplicationError("a file cannot be followed by trailers")
        length = held.length if held is not None else self._remaining
        if not self.bodiless and length is not None:
            size = min(size, length)
        if held is None:
            before = b"%x\r\n" % size if self._chunked and size else b""
            if self._remaining not in (None, size) and not self.bodiless:
                raise _wrong_length(self._remaining or 0, size)
        else:
            held.set_defaults(self._defaults())
            before = held.head + self._framing(held, size, False)
            self.held = None
        self._remaining = 0
        after = b"" if not self._chunked or self.bodiless else CRLF + LAST_CHUNK if size else LAST_CHUNK
        return before, 0 if self.bodiless else size, after

    def _more(self, data: bytes, size: int, more: bool) -> Sequence[bytes]:
        """The bytes to send for a later part of the content."""
        if self.bodiless:
            self._check_empty(size)
        elif self._remaining is not None:
            if size > self._remaining:  # the client gets what Content-Length has announced
                self._cache.warn(self._request, "the response has more content than its Content-Length says; cut off")
                data = data[: self._remaining]
                size = self._remaining
            elif size < self._remaining and not more:
                raise _wrong_length(self._remaining, size)
            self._remaining -= size
        return self._frame(data, size, more)

    def _frame(self, data: bytes, size: int, more: bool) -> Sequence[bytes]:
        if self.bodiless:
            return ()
        if not self._chunked:
            return (data,) if data else ()
        parts = (b"%x\r\n" % size, data, CRLF) if data else ()
        return parts if more or self._sends_trailers else (*parts, LAST_CHUNK)

    def _framing(self, held: EncodedHead, size: int, more: bool) -> bytes:
        """The end of the head: a field that was added, and the framing (RFC 9112, section 6.3), from what is known of
        the content."""
        self._chunked = False
        self._event_stream = held.event_stream
        self._remaining = None
        framing = CRLF
        if self.bodiless:
            self._check_empty(size)
            if size and not more and held.length is None and held.status not in (204, 304):
                framing = b"content-length: %d\r\n\r\n" % size  # what a GET would be answered
        elif held.length is not None:
            if size > held.length or (size < held.length and not more):
                raise _wrong_length(held.length, size)
            self._remaining = held.length - size
        elif not more and not self._sends_trailers:
            self._remaining = 0
            framing = b"content-length: %d\r\n\r\n" % size
        elif self._request.version == "1.1":
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n\r\n"
        else:
            self.keep_alive = False  # HTTP/1.0 has no chunks: the end of the connection ends the content
        added, self.added = self.added, None
        if added is not None and not held.has(added[0]):
            framing = b"%b: %b\r\n%b" % (*added, framing)
        if not self.keep_alive:
            return b"connection: close\r\n" + framing
        if self._request.version == "1.0":
            return b"connection: keep-alive\r\n" + framing
        return framing

    def _check_empty(self, size: int) -> None:
        if size and self._request.method != "HEAD":
            self._cache.warn(self._request, "a response with status 204, 205 or 304 has no content; left out")

    def trailers(self, fields: Iterable[Field], *, more: bool) -> list[bytes]:
        """The bytes to send for trailer fields (RFC 9112, section 7.1.2); none if the framing has no place for them.
        Raises ApplicationError for a field that may not be a trailer (RFC 9110, section 6.5.1)."""
        lines = write_fields(checked_trailers(fields))
        first = b"0\r\n" if self.awaits_trailers else b""
        self.awaits_trailers = False
        if not self._chunked or not self._sends_trailers:
            return []
        return [first + lines + (b"" if more else b"\r\n")]

    def end(self) -> Sequence[bytes]:
        """The bytes that end the response, whatever its application would have sent. Raises ApplicationError if the
        content does not fit its Content-Length."""
        parts = self.body(b"", False)
        return (*parts, *self.trailers((), more=False)) if self.awaits_trailers else parts

    @property
    def sends_events(self) -> bool:
        """Is the response that has begun an event stream?"""
        return self._event_stream if self.held is None else self.held.event_stream

    @property
    def truncation_visible(self) -> bool:
        """Does the framing show the client that a response is truncated? If not, the client takes the end of the
        connection for the end of the content, and only a reset shows it."""
        return self._chunked or self._remaining is not None or self.bodiless or self.held is not None


def _takes_trailers(request: Request) -> bool:
    """Does the client announce that it accepts trailers (RFC 9110, section 10.1.4)?"""
    members = b",".join(value for name, value in request.fields if name == b"te").lower().split(b",")
    return b"trailers" in (member.strip(b" \t") for member in members)


def _wrong_length(announced: int, size: int) -> ApplicationError:
    much = "more" if size > announced else "less"
    return ApplicationError(f"the response has {much} content than its Content-Length says")


UNREADABLE = Request("GET", b"/", b"", "1.1", [], False, 0, False)
UNREADABLE_HEAD = Request("HEAD", b"/", b"", "1.1", [], False, 0, False)
"""Stand for a request that could not be read, so that it can be answered."""
