"""Writes responses (RFC 9112, sections 4 and 6).

Strategy: the application's start is checked, once for all that are alike, and held back; the framing is decided
when the first part of the content is there, so that head and content leave together and a response that is whole
at once gets a length instead of chunks. The framing is the server's own affair: what the application says about
`Transfer-Encoding` and `Connection` is not passed on, but for `Connection: Upgrade`.

What the application hands over is checked as strictly as h11 checks it: nothing it sends can end the head early
or frame a second response.
"""

import http
import logging
from collections.abc import Callable, Iterable, Sequence

from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.fields import Field, checked_field

OWN_FIELDS = frozenset((b"connection", b"content-length", b"date", b"server", b"transfer-encoding"))
"""Fields that the server sends itself, or must know of."""

NOT_A_TRAILER = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"te",
                           b"content-encoding", b"content-type", b"content-range", b"set-cookie"))  # fmt: skip

logger = logging.getLogger("pounce.error")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CRLF = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
SMALL = 8192
"""Content of so many bytes is copied behind its head: that costs less than a system call with two buffers."""


def status_line(status: int) -> bytes:
    status = int(status)  # it may be an enumeration's, and those write themselves in various ways
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # section 4: the phrase may be empty, the space before it may not be missing
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


def write_fields(fields: Iterable[Field]) -> bytes:
    """Field lines of an application's fields. Raises ApplicationError for what is not a field."""
    lines = bytearray()
    for name, value in fields:
        lines += b"%b: %b\r\n" % checked(name, value)
    return bytes(lines)


def checked(name: bytes, value: bytes) -> Field:
    """The field as it is sent. Raises ApplicationError."""
    field = checked_field(name, value)
    if isinstance(field, str):
        raise ApplicationError("a response header " + field)
    return field


class Start:
    """The beginning of a response as the application has said it: checked, and written as far as it can be."""

    __slots__ = ("bodiless", "close", "defaults", "head", "length", "line", "lines", "overrides", "status")

    def __init__(self, status: object, fields: Iterable[Field], line: Callable[[int], bytes]) -> None:
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 999:
            raise ApplicationError(f"a response needs a status from 200 to 999, not {status!r}")
        self.status = status
        self.bodiless = status in (204, 205, 304)
        self.line = line(status)
        self.length: int | None = None
        """What Content-Length says."""
        self.close = False
        """Does the application want the connection closed?"""
        self.overrides: set[bytes] = set()
        """Names of the server's own fields that the application has sent itself."""
        lines = bytearray()
        for field in fields:
            name, value = checked(*field)
            lower = name.lower()
            if lower in OWN_FIELDS and not self._take(lower, value):
                continue
            lines += b"%b: %b\r\n" % (name, value)
        if status == 205:  # no content, and said so (RFC 9110 section 15.3.6)
            self.length = 0
            lines += b"content-length: 0\r\n"
        self.lines = bytes(lines)
        self.head = b""
        """Everything but the framing, with the server's own field lines as in `defaults`."""
        self.defaults: bytes | None = None
        """The lines that were written in last. They are the same object for a second: whoever has the same ones need
        not write them in again."""

    def write_in(self, defaults: bytes) -> None:
        self.defaults = defaults
        if self.overrides:
            lines = defaults.splitlines(keepends=True)
            defaults = b"".join(line for line in lines if line[: line.find(b":")] not in self.overrides)
        self.head = self.line + defaults + self.lines

    def _take(self, name: bytes, value: bytes) -> bool:
        """Takes in a field that concerns the server. False if it is not to be sent as it stands."""
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) <= 19 else None
            if length is None or self.length not in (None, length):
                raise ApplicationError(f"the response has an impossible Content-Length: {value!r}")
            first = self.length is None
            self.length = length
            return first and self.status not in (204, 205)  # RFC 9110 section 8.6: not twice, and not in a 204
        if name == b"connection":
            options = [option.strip() for option in value.lower().split(b",")]
            self.close = self.close or b"close" in options
            return options == [b"upgrade"]  # goes with an Upgrade field (RFC 9110 section 7.8)
        if name == b"transfer-encoding":
            return False  # ASGI: "the server must ignore it"
        self.overrides.add(name)
        return True


class Memory:
    """What responses of a worker begin with: the same, again and again. Bounded, and begun anew when it is full."""

    STARTS = 512
    LONGEST = 1024  # bytes of field lines
    ROUTES = 64
    __slots__ = ("_lines", "_routes", "_starts")

    def __init__(self) -> None:
        self._routes: set[tuple[str, bytes]] = set()  # those that the log has been told of
        self._lines: dict[int, bytes] = {}
        self._starts: dict[object, Start] = {}

    def start(self, status: object, fields: Iterable[Field]) -> Start:
        """The beginning of a response. Raises ApplicationError."""
        key = (status, *fields)
        try:
            known = self._starts.get(key)
        except TypeError:  # pairs that are lists: allowed, but not what one can remember
            return Start(status, key[1:], self._line)  # type: ignore[arg-type]
        if known is None:
            known = Start(status, key[1:], self._line)  # type: ignore[arg-type]
            if len(known.lines) <= self.LONGEST:
                if len(self._starts) >= self.STARTS:
                    self._starts.clear()
                self._starts[key] = known
        return known

    def warn(self, request: Request, what: str) -> None:
        """Content that cannot be sent was left out. Told once for each of so many routes."""
        route = request.method, request.path
        if route not in self._routes and len(self._routes) < self.ROUTES:
            self._routes.add(route)
            logger.warning("%s %s: %s.", request.method, request.path.decode("ascii"), what)

    def _line(self, status: int) -> bytes:
        line = self._lines.get(status)
        if line is None:
            line = self._lines[status] = status_line(status)
        return line


class ResponseWriter:
    """The responses of one connection, one after the other.

    `start` with the request that is answered, then send `body` until `more` is false, then `trailers` if they were
    promised. `keep_alive` is true as long as another request may follow on the connection; whoever drives the writer
    may set it to false before the first part of the content.
    """

    __slots__ = ("_chunked", "_defaults", "_memory", "_remaining", "_request", "_sends_trailers", "_unusual",
                 "awaits_trailers", "bodiless", "held", "keep_alive")  # fmt: skip

    def __init__(self, memory: Memory, defaults: Callable[[], bytes]) -> None:
        """`defaults` gives the field lines that the server adds (Server, Date)."""
        self._memory = memory
        self._defaults = defaults
        self._request = UNKNOWN
        self.held: Start | None = None
        """The start, until the first part of the content."""
        self._remaining: int | None = None  # bytes that Content-Length still promises
        self._chunked = False
        self.awaits_trailers = False
        self._sends_trailers = False  # does the client want those that were promised?
        self.bodiless = False
        """Is the response one that has no content, whatever the application sends (RFC 9110 section 6.4.1)?"""
        self.keep_alive = False
        self._unusual = False  # what the framing depends on, as one flag: it is asked for every response

    def start(self, request: Request, status: object, fields: Iterable[Field], trailers: bool = False) -> None:
        """Takes the status and the fields. Raises ApplicationError."""
        held = self._memory.start(status, fields)
        self._request = request
        self.held = held
        self.keep_alive = request.keep_alive and not held.close
        unusual = trailers or request.special or held.bodiless
        if unusual or self._unusual:  # else the last response has left them as they have to be
            self._unusual = unusual
            self.awaits_trailers = trailers
            self._sends_trailers = trailers and _takes_trailers(request)
            self.bodiless = request.method == "HEAD" or held.bodiless

    def body(self, data: bytes, more: bool) -> Sequence[bytes]:
        """What goes out for a part of the content, with the head before the first. Raises ApplicationError, and
        then nothing has changed: a response whose head is still held back can be replaced by another."""
        size = len(data)
        held = self.held
        if held is None:
            return self._more(data, size, more)
        defaults = self._defaults()
        if defaults is not held.defaults:
            held.write_in(defaults)
        if more or self._unusual or not self.keep_alive:
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
        """For a file of `size` bytes that is the whole content: what goes out before it, how many of its bytes, and
        what goes out behind it. A file that has grown since its length was said, as logs do, is sent up to it. Raises
        ApplicationError."""
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
            held.write_in(self._defaults())
            before = held.head + self._framing(held, size, False)
            self.held = None
        self._remaining = 0
        after = b"" if not self._chunked or self.bodiless else CRLF + LAST_CHUNK if size else LAST_CHUNK
        return before, 0 if self.bodiless else size, after

    def _more(self, data: bytes, size: int, more: bool) -> Sequence[bytes]:
        """A part of the content that is not the first."""
        if self.bodiless:
            self._check_empty(size)
        elif self._remaining is not None:
            if size > self._remaining:  # the client has been promised so much, and can have it
                self._memory.warn(self._request, "the response has more content than its Content-Length says; cut off")
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

    def _framing(self, held: Start, size: int, more: bool) -> bytes:
        """The end of the head, now that so much of the content is known. The framing is RFC 9112 section 6.3, as a
        sender sees it."""
        self._chunked = False
        self._remaining = None
        framing = CRLF
        if self.bodiless:
            self._check_empty(size)
            if size and not more and held.length is None and held.status not in (204, 304):
                framing = b"content-length: %d\r\n\r\n" % size  # as for the GET that the client wonders about
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
            self.keep_alive = False  # HTTP/1.0 knows no chunks: the end of the connection ends the content
        if not self.keep_alive:
            return b"connection: close\r\n" + framing
        if self._request.version == "1.0":
            return b"connection: keep-alive\r\n" + framing
        return framing

    def _check_empty(self, size: int) -> None:
        if size and self._request.method != "HEAD":
            self._memory.warn(self._request, "a response with status 204, 205 or 304 has no content; left out")

    def trailers(self, fields: Iterable[Field], *, more: bool) -> list[bytes]:
        """What goes out for trailer fields (RFC 9112 section 7.1.2). Nothing, where the framing has no place for
        them. Raises ApplicationError for a field that cannot be a trailer (RFC 9110 section 6.5.1)."""
        fields = [checked(*field) for field in fields]
        for name, _ in fields:
            if name.lower() in NOT_A_TRAILER:
                raise ApplicationError(f"{name!r} cannot be sent as a trailer")
        lines = write_fields(fields)
        first = b"0\r\n" if self.awaits_trailers else b""
        self.awaits_trailers = False
        if not self._chunked or not self._sends_trailers:
            return []
        return [first + lines + (b"" if more else b"\r\n")]

    @property
    def cut_shows(self) -> bool:
        """Can the client see from the framing that a response has been cut off? If not, it takes the end of the
        connection for the end of the content, and only a reset can tell it."""
        return self._chunked or self._remaining is not None or self.bodiless or self.held is not None


def _takes_trailers(request: Request) -> bool:
    """Does the client say that it takes trailers (RFC 9110, section 10.1.4)?"""
    members = b",".join(value for name, value in request.fields if name == b"te").lower().split(b",")
    return b"trailers" in (member.strip(b" \t") for member in members)


def _wrong_length(promised: int, size: int) -> ApplicationError:
    much = "more" if size > promised else "less"
    return ApplicationError(f"the response has {much} content than its Content-Length says")


UNKNOWN = Request("GET", b"/", b"", "1.1", [], False, 0, False)
UNKNOWN_HEAD = Request("HEAD", b"/", b"", "1.1", [], False, 0, False)
"""Stand for a request that could not be read, when it has to be answered all the same."""
