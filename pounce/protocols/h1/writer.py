"""Writes responses (RFC 9112, sections 4 and 6).

Strategy: the application's start is checked and held back; the framing is decided when the first part of the
content is there, so that head and content leave together and a response that is whole at once gets a length
instead of chunks. The framing is the server's own affair: what the application says about `Transfer-Encoding` and
`Connection` is not passed on.

What the application hands over is checked as strictly as h11 checks it: nothing it sends can end the head early
or frame a second response.
"""

import http
from collections.abc import Iterable

from pounce.fields import Field, field_problem
from pounce.protocols.events import ApplicationError, Request

NOT_A_TRAILER = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"te",
                           b"content-encoding", b"content-type", b"content-range", b"set-cookie"))  # fmt: skip

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # section 4: the phrase may be empty, the space before it may not be missing
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


def write_fields(fields: Iterable[Field]) -> bytes:
    """Field lines of an application's fields. Raises ApplicationError for what is not a field."""
    lines = bytearray()
    for name, value in fields:
        check_field(name, value)
        lines += b"%b: %b\r\n" % (name, value)
    return bytes(lines)


def check_field(name: bytes, value: bytes) -> None:
    problem = field_problem(name, value)
    if problem:
        raise ApplicationError("a response header " + problem)


class ResponseWriter:
    """One response. `start` it, then send `body` until `more` is false, then `trailers` if they were promised.

    `keep_alive` is true as long as another request may follow on the connection; whoever drives the writer may
    set it to false before the head is written.
    """

    __slots__ = ("_bodiless", "_chunked", "_content_length", "_head", "_method", "_remaining", "_trailers", "_version",
                 "keep_alive", "status")  # fmt: skip

    def __init__(self, request: Request) -> None:
        self._method = request.method
        self._version = request.version
        self.keep_alive = request.keep_alive
        self.status = 0
        """The status; 0 before `start`."""
        self._head: bytearray | None = None  # held back until the first part of the content
        self._content_length: int | None = None
        self._remaining: int | None = None  # bytes that Content-Length still promises
        self._chunked = False
        self._trailers = False
        self._bodiless = False

    def start(self, status: object, fields: Iterable[Field], defaults: bytes, *, trailers: bool = False) -> None:
        """Takes the status and the fields. `defaults` are field lines that the server adds (Server, Date)."""
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 999:
            raise ApplicationError(f"a response needs a status from 200 to 999, not {status!r}")
        head = bytearray(status_line(status))
        names = set()
        length = None
        close = False
        lines = bytearray()
        for name, value in fields:
            check_field(name, value)
            lower = name.lower()
            names.add(lower)
            if lower == b"content-length":
                if not value.isdigit() or len(value) > 20 or length not in (None, int(value)):
                    raise ApplicationError(f"the response has an impossible Content-Length: {value!r}")
                if length is not None or status == 204:
                    continue  # RFC 9110 section 8.6: not in a 204, and not twice
                length = int(value)
            elif lower == b"transfer-encoding":
                continue  # ASGI: "the server must ignore it"
            elif lower == b"connection":
                close = close or b"close" in [option.strip() for option in value.lower().split(b",")]
                continue
            lines += b"%b: %b\r\n" % (name, value)
        for default in defaults.splitlines(keepends=True):
            if default[: default.find(b":")].lower() not in names:
                head += default
        head += lines
        if close:
            self.keep_alive = False
        self.status = status
        self._head = head
        self._content_length = length
        self._bodiless = self._method == "HEAD" or status in (204, 304)
        self._trailers = trailers

    @property
    def bodiless(self) -> bool:
        """Is the response one that has no content, whatever the application sends (RFC 9110 section 6.4.1)?"""
        return self._bodiless

    @property
    def awaits_trailers(self) -> bool:
        return self._trailers

    def body(self, data: bytes, *, more: bool) -> list[bytes]:
        """What goes out for a part of the content, with the head before the first. Raises ApplicationError, and
        then nothing has changed: a response whose head is still held back can be replaced by another."""
        parts = self._begin_part(len(data), more=more)
        if not self._bodiless:
            if self._chunked:
                if data:
                    parts += (b"%x\r\n" % len(data), data, b"\r\n")
                if not more and not self._trailers:
                    parts.append(LAST_CHUNK)
            elif data:
                parts.append(data)
        return parts

    def file_head(self, size: int) -> bytes:
        """What goes out before a file of `size` bytes that is the whole content. Raises ApplicationError."""
        if self._trailers:
            raise ApplicationError("a file cannot be followed by trailers")
        return self._begin_part(size, more=False)[0]

    def _begin_part(self, size: int, *, more: bool) -> list[bytes]:
        head = self._head
        self._check_length(size, more=more)
        if head is None:
            if self._remaining is not None:
                self._remaining -= size
            return []
        self._head = None
        self._decide_framing(head, size, more=more)
        return [bytes(head)]

    def _check_length(self, size: int, *, more: bool) -> None:
        if self.status in (204, 304):
            if size:
                raise ApplicationError(f"a response with status {self.status} cannot have content")
            return
        remaining = self._content_length if self._head is not None else self._remaining
        if remaining is None or self._bodiless:
            return
        if size > remaining:
            raise ApplicationError("the response has more content than its Content-Length says")
        if size < remaining and not more:
            raise ApplicationError("the response has less content than its Content-Length says")

    def _decide_framing(self, head: bytearray, size: int, *, more: bool) -> None:
        """RFC 9112 section 6.3, seen from the sender."""
        if self._content_length is not None:
            self._remaining = self._content_length - size
        elif self._bodiless:
            if self._method == "HEAD" and size and not more and self.status not in (204, 304):
                head += b"content-length: %d\r\n" % size  # as for the GET that the client wonders about
        elif not more and not self._trailers:
            self._remaining = 0
            head += b"content-length: %d\r\n" % size
        elif self._version == "1.1":
            self._chunked = True
            head += b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False  # HTTP/1.0 knows no chunks: the end of the connection ends the content
        if not self.keep_alive:
            head += b"connection: close\r\n"
        elif self._version == "1.0":
            head += b"connection: keep-alive\r\n"
        head += b"\r\n"

    def trailers(self, fields: Iterable[Field], *, more: bool) -> list[bytes]:
        """What goes out for trailer fields (RFC 9112 section 7.1.2). Nothing, where the framing has no place for
        them. Raises ApplicationError for a field that cannot be a trailer (RFC 9110 section 6.5.1)."""
        fields = list(fields)
        for name, _ in fields:
            if isinstance(name, bytes) and name.lower() in NOT_A_TRAILER:
                raise ApplicationError(f"{name!r} cannot be sent as a trailer")
        lines = write_fields(fields)
        if not self._chunked:
            return []
        first = b"0\r\n" if self._trailers else b""
        self._trailers = False
        return [first + lines + (b"" if more else b"\r\n")]

    @property
    def cut_shows(self) -> bool:
        """Can the client see from the framing that a response has been cut off? If not, it takes the end of the
        connection for the end of the content, and only a reset can tell it."""
        return self._chunked or self._remaining is not None or self._bodiless or self._head is not None


def whole_response(request: Request, status: int, reason: str, defaults: bytes, *, keep_alive: bool) -> list[bytes]:
    """A short answer that the server itself gives."""
    writer = ResponseWriter(request)
    writer.keep_alive = writer.keep_alive and keep_alive
    writer.start(status, [(b"content-type", b"text/plain; charset=utf-8")], defaults)
    return writer.body(reason.encode(), more=False)


UNKNOWN = Request("GET", b"/", b"", "1.1", [], False, 0, False)
"""Stands for a request that could not be read, when it has to be answered all the same."""
