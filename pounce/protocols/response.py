"""The head of a response, checked against RFC 9110, for every protocol that writes one.

Must never let an application end the head early or frame a second response: its fields are checked as strictly as h11
checks them. The framing is the server's. So Content-Length is read, and Transfer-Encoding and Connection are not sent,
but for `Connection: Upgrade`.

Owner: the thread of the connection, until a head is in a cache; from then on it is not changed.
"""

from collections.abc import Iterable

from pounce.protocols.events import ApplicationError
from pounce.protocols.fields import Field, checked_field

SERVER_FIELDS = frozenset((b"connection", b"content-length", b"date", b"server", b"transfer-encoding"))
"""Fields that the server sends itself or has to read."""

NOT_A_TRAILER = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"te",
                           b"content-encoding", b"content-type", b"content-range", b"set-cookie"))  # fmt: skip
"""Fields that decide how the content is read, so they cannot follow it (RFC 9110, section 6.5.1)."""


def checked(name: bytes, value: bytes) -> Field:
    """The field as it is sent. Raises ApplicationError."""
    field = checked_field(name, value)
    if isinstance(field, str):
        raise ApplicationError("a response header " + field)
    return field


def checked_trailers(fields: Iterable[Field]) -> list[Field]:
    """Trailer fields as they are sent. Raises ApplicationError."""
    trailers = [checked(*field) for field in fields]
    for name, _ in trailers:
        if name.lower() in NOT_A_TRAILER:
            raise ApplicationError(f"{name!r} cannot be sent as a trailer")
    return trailers


class ResponseHead:
    """Status and fields of a response, checked. Never changed: one object may stand for many equal responses."""

    __slots__ = ("bodiless", "close", "event_stream", "fields", "length", "overrides", "status")

    def __init__(self, status: object, fields: Iterable[Field]) -> None:
        """Raises ApplicationError for a status or a field that RFC 9110 does not allow."""
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 999:
            raise ApplicationError(f"a response needs a status from 200 to 999, not {status!r}")
        self.status = status
        self.bodiless = status in (204, 205, 304)
        """Must the response have no content, whatever the application sends (RFC 9110, section 6.4.1)?"""
        self.length: int | None = None
        """The value of Content-Length, in bytes; None without that field."""
        self.close = False
        """Does the application want the connection closed?"""
        self.event_stream = False
        """Is the content a stream of events, which goes on for as long as the client listens?"""
        self.overrides: set[bytes] = set()
        """Names of the server's own fields that the application has sent itself, in lower case."""
        self.fields: list[Field] = []
        """The application's fields that are sent, in their order, with names as the application writes them."""
        for field in fields:
            name, value = checked(*field)
            lower = name.lower()
            if lower == b"content-type":
                self.event_stream = value.lower().startswith(b"text/event-stream")
            if lower not in SERVER_FIELDS or self._read(lower, value):
                self.fields.append((name, value))
        if status == 205:  # a response without content says so (RFC 9110, section 15.3.6)
            self.length = 0
            self.fields.append((b"content-length", b"0"))

    def _read(self, name: bytes, value: bytes) -> bool:
        """Reads a field that concerns the server. Is it sent as it is?"""
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) <= 19 else None
            if length is None or self.length not in (None, length):
                raise ApplicationError(f"the response has an impossible Content-Length: {value!r}")
            first = self.length is None
            self.length = length
            return first and self.status not in (204, 205)  # RFC 9110, section 8.6: not twice, and not in a 204
        if name == b"connection":
            options = [option.strip() for option in value.lower().split(b",")]
            self.close = self.close or b"close" in options
            return options == [b"upgrade"]  # goes with an Upgrade field (RFC 9110, section 7.8)
        if name == b"transfer-encoding":
            return False  # ASGI: "the server must ignore it"
        self.overrides.add(name)
        return True
