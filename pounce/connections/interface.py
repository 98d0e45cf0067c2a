"""The seam between protocols and the application's side.

A connection reads requests from a stream of bytes and is, for each of them, a `Transport`: the response's side. What
runs the application for a request is a `Handler`: the request's side. Neither knows how the other works: HTTP/1, HTTP/2
and HTTP/3 are transports, an exchange of ASGI is a handler.

    stream ── data_received ──► connection ── body_received ──► handler
    stream ◄─ write ─────────── transport  ◄─ send_body ─────── handler

For HTTP/1 the connection itself is the transport, because it carries one request at a time.

Owner: the worker's thread, for both sides.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from pounce.net.byte_stream import ByteStream as ByteStream
from pounce.net.byte_stream import Peer as Peer
from pounce.protocols.events import Request
from pounce.protocols.fields import Field

if TYPE_CHECKING:
    from pounce.protocols.ws.handshake import Handshake


class Handler(Protocol):
    """The request's side, as its transport calls it."""

    @property
    def request(self) -> Request: ...

    eof: bool
    """The client sends no more. It may still read."""
    status: int
    """Of the response. A transport that has answered by itself sets it."""

    @property
    def answerable(self) -> bool:
        """Has nothing of the response left yet, so that another response can take its place?"""

    def start(self) -> None:
        """Runs the application, or has the request wait for admission, or refuses it. Called once, by the transport
        that has made the handler."""

    def body_received(self, data: bytes, complete: bool) -> None:
        """A part of the content; `complete` with the last one. May be called before `start`."""

    def eof_received(self) -> None:
        """The client sends no more. It may still read."""

    def writable(self) -> None:
        """The transport is no longer congested."""

    def connection_lost(self) -> None:
        """The client cannot be answered any more, or has been answered by the transport. The last call."""


class Transport(Protocol):
    """The response's side of one request, as its handler calls it. The order is: `send_head`; then `send_body` until
    `more` is false, or `send_file`; then `send_trailers` if they were promised. `send_error`, `upgrade` and `abort`
    take the place of whatever has not been sent. After the end of the response the handler calls nothing more."""

    @property
    def stream(self) -> ByteStream:
        """The stream that carries the response. Several transports may share one."""

    @property
    def peer(self) -> Peer: ...

    @property
    def congested(self) -> bool:
        """Does the client not keep up? Then the handler waits for `writable` before it sends more."""

    def read_more(self, taken: int) -> None:
        """The application has taken `taken` bytes of the content and waits for more. The first call also tells a client
        that expects it to go on (100, RFC 9110 section 10.1.1)."""

    def add_field(self, name: bytes, value: bytes) -> None:
        """Adds a legal field of the server's own to the next head, whoever that is from, unless it has such a field.
        `name` is in lower case."""

    def send_early_hints(self, links: Iterable[bytes]) -> None:
        """A 103 with these Link fields (RFC 8297). Raises ApplicationError."""

    def send_head(self, status: object, fields: Iterable[Field], trailers: bool) -> None:
        """Checks the status and the fields of the response, and holds its head back for the first part of the content.
        `trailers`: they will follow the content. Raises ApplicationError."""

    def flush_head(self) -> None:
        """Sends a head that is held back."""

    def send_body(self, data: bytes, more: bool) -> bool:
        """Sends a part of the content. True if the transport is congested, and more is to come. Raises
        ApplicationError, and then nothing has changed."""

    def send_file(self, fd: int, size: int) -> int:
        """Sends a whole file of `size` bytes as the content, and returns how many of them fit the response. Takes `fd`
        over, unless it raises ApplicationError."""

    def send_trailers(self, fields: Iterable[Field], more: bool) -> None:
        """Sends trailer fields, where the protocol and the client take them. Raises ApplicationError."""

    def send_error(self, status: int, reason: str, fields: Iterable[Field] = (), *, close: bool = False) -> None:
        """Sends a whole response of the server's own, with `reason` as its content. With `close` the connection ends
        after it. Only while the handler is answerable."""

    def upgrade(
        self, handler: "MessageHandler", handshake: "Handshake", subprotocol: object, fields: Iterable[Field]
    ) -> "MessageTransport":
        """Accepts a WebSocket. `fields` are the application's. The handler calls `begin` of what it gets, at once.
        Raises ApplicationError, and then nothing has changed."""

    def abort(self) -> None:
        """The response cannot be completed: ends it so that the client notices."""


class MessageHandler(Protocol):
    """The application's side of an accepted WebSocket, as its transport calls it."""

    handling_message: bool
    """Has the application taken a message, and not come for the next one yet?"""

    def message_received(self) -> None:
        """A message has come, which `take` gives."""

    def writable(self) -> None:
        """The transport is no longer congested."""

    def connection_lost(self) -> None:
        """Nothing more is sent; `disconnect` says why."""


class MessageTransport(Protocol):
    """An accepted WebSocket, as its handler calls it."""

    @property
    def congested(self) -> bool:
        """Does the client not keep up? Then the handler waits for `writable` before it sends more."""

    disconnect: tuple[int, str] | None
    """Code and reason of the end (RFC 6455, section 7.4); None until then."""
    closed_by_application: bool

    def begin(self) -> None:
        """Sends the answer to the handshake, and reads what the client has sent behind it."""

    def next_message(self) -> str | bytes | None:
        """The next message that has come; None when there is none."""

    def send(self, data: str | bytes) -> None:
        """Sends a message: text or binary, by its type."""

    def close_by_application(self, code: int, reason: str) -> None:
        """Sends a Close, or answers the client's."""

    def application_ended(self, code: int) -> None:
        """The application has returned or raised. Closes with `code`, unless that has happened. The last call."""
