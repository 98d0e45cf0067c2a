"""Requests that the server answers by itself, at once and without the application: what probes ask.

Owner: the thread of the connection.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pounce.connections.interface import Transport
from pounce.protocols.events import Request
from pounce.protocols.fields import Field

TEXT = b"text/plain; charset=utf-8"


class OwnResponse(NamedTuple):
    status: int
    content: bytes
    content_type: bytes = TEXT
    fields: Iterable[Field] = ()


METHOD_NOT_ALLOWED = OwnResponse(405, b"method not allowed\n", fields=[(b"allow", b"GET, HEAD")])


class OwnExchange:
    """The handler of such a request. Its content, if there is any, is thrown away."""

    __slots__ = ("_make", "_transport", "answerable", "eof", "request", "status")

    def __init__(self, transport: Transport, request: Request, make: Callable[[], OwnResponse]) -> None:
        """`make` is called where the method is GET or HEAD; any other is answered 405."""
        self.request = request
        self.eof = False
        self.answerable = True
        self.status = 0
        self._transport = transport
        self._make = make

    def start(self) -> None:
        status, content, content_type, fields = (
            self._make() if self.request.method in ("GET", "HEAD") else METHOD_NOT_ALLOWED
        )
        own = [(b"content-type", content_type), (b"cache-control", b"no-store"), *fields]
        self._transport.send_head(status, own, False)
        self.answerable = False
        self._transport.send_body(content, False)

    def body_received(self, data: bytes, complete: bool) -> None: ...

    def eof_received(self) -> None: ...

    def writable(self) -> None: ...

    def connection_lost(self) -> None: ...
