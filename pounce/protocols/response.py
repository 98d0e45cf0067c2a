"""The head of a response as RFC 9110 allows it: checked once, whatever protocol writes it.

Nothing that an application hands over can end the head early or frame a second response: it is checked as strictly as
h11 checks it. The framing belongs to the server, so Content-Length is understood, and Transfer-Encoding and Connection
are not passed on, but for `Connection: Upgrade`.
"""

from collections.abc import Iterable

from pounce.protocols.events import ApplicationError
from pounce.protocols.fields import Field, checked_field

SERVER_FIELDS = frozenset((b"connection", b"content-length", b"date", b"server", b"transfer-encoding"))
"""Fields that the server sends itself, or must know of."""

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
    """Status and fields of a response, checked. Never changed: the same one may stand for many responses."""

    __slots__ = ("bodiless", "close", "fields", "length", "overrides", "status")

    def __init__(self, status: object, fields: Iterable[Field]) -> None:
        """Raises ApplicationError."""
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 999:
            raise ApplicationError(f"a response needs a status from 200 to 999, not {status!r}")
        self.status = status
        self.bodiless = status in (204, 205, 304)
        """Has it no content, whatever the application sends (RFC 9110, section 6.4.1)?"""
        self.length: int | None = None
        """What Content-Length says, in bytes."""
        self.close = False
        """Does the application want the connection closed?"""
        self.overrides: set[bytes] = set()
        """Names of the server's own fields that the application has sent itself, in lower case."""
        self.fields: list[Field] = []
        """What is sent of the application's fields, in their order; names as the application writes them."""
        for field in fields:
            name, value = checked(*field)
            lower = name.lower()
            if lower not in SERVER_FIELDS or self._take(lower, value):
                self.fields.append((name, value))
        if status == 205:  # no content, and said so (RFC 9110, section 15.3.6)
            self.length = 0
            self.fields.append((b"content-length", b"0"))

    def _take(self, name: bytes, value: bytes) -> bool:
        """Understands a field that concerns the server. False if it is not to be sent as it stands."""
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
