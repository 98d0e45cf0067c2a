"""The response's side of an HTTP/1 connection: the `Transport` of its requests, one after the other.

Owner: the worker's thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pounce.connections.context import ConnectionContext
from pounce.connections.http1_state import CLOSING, State
from pounce.connections.interface import Handler, MessageHandler, MessageTransport
from pounce.net.byte_stream import HIGH_WATER, ByteStream, Peer
from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.fields import Field
from pounce.protocols.h1.reader import RequestReader
from pounce.protocols.h1.writer import CONTINUE, ResponseWriter, write_fields

if TYPE_CHECKING:
    from pounce.protocols.ws.handshake import Handshake

MAX_DISCARD = 65536
"""Bytes of unread content that are read to keep a connection; reading more costs more than a new connection."""


class HTTP1Transport(ABC):
    __slots__ = ("_advancing", "_expects_continue", "_untaken", "context", "handler", "peer", "reader", "state",
                 "stream", "writer")  # fmt: skip

    protocol = "HTTP"
    context: ConnectionContext
    stream: ByteStream
    peer: Peer
    reader: RequestReader
    writer: ResponseWriter
    handler: Handler | None
    """Of the request whose response is not complete yet."""
    state: State
    _advancing: bool  # is `data_received` on the stack?
    _expects_continue: bool  # does the client wait for a 100 (Continue)?
    _untaken: int  # bytes of content that the handler has and the application has not taken

    @abstractmethod
    def _enter(self, state: State) -> None: ...

    @abstractmethod
    def advance(self) -> None:
        """Goes on with the requests that have arrived already."""

    @abstractmethod
    def close(self, *, linger: bool = False) -> None:
        """Ends the connection, when what was sent has left."""

    @abstractmethod
    def drain(self) -> None:
        """Answers what the client has asked for already, and then ends."""

    @abstractmethod
    def _await_content(self) -> None: ...

    @property
    def congested(self) -> bool:
        return self.stream.buffered > HIGH_WATER

    def read_more(self, taken: int) -> None:
        self._untaken -= taken
        if self._expects_continue:
            self._expects_continue = False
            # A client that has sent content all the same, or has been told how the response begins, needs no 100.
            if not taken and self.handler is not None and self.handler.answerable:
                self.stream.write(CONTINUE)
        self._await_content()

    def add_field(self, name: bytes, value: bytes) -> None:
        self.writer.add_field(name, value)

    def send_early_hints(self, links: Iterable[bytes]) -> None:
        """HTTP/1.0 clients know no interim responses and get none."""
        lines = write_fields([(b"link", link) for link in links])
        if self.handler is not None and self.handler.request.version == "1.1":
            self.stream.write(b"HTTP/1.1 103 Early Hints\r\n" + lines + b"\r\n")

    def send_head(self, status: object, fields: Iterable[Field], trailers: bool) -> None:
        self.writer.start(self.handler.request, status, fields, trailers)  # type: ignore[union-attr]  # the caller's

    def flush_head(self) -> None:
        if self.handler is not None:
            self._decide_keep_alive(self.handler.request)
            self.stream.write_parts(self.writer.body(b"", True))

    def send_body(self, data: bytes, more: bool) -> bool:
        writer = self.writer
        if (self.context.draining or not self.reader.body_complete) and writer.held is not None:
            self._decide_keep_alive(self.handler.request)  # type: ignore[union-attr]  # the caller's
        parts = writer.body(data, more)
        if more:
            self.stream.write_soon(parts)
            return self.stream.buffered > HIGH_WATER
        if len(parts) == 1:
            self.stream.write(parts[0])
        elif parts:
            self.stream.write_parts(parts)
        if self._advancing and writer.keep_alive and not writer.awaits_trailers:  # as `_complete`
            self.handler = None
        elif not writer.awaits_trailers:
            self._complete()
        else:
            return self.stream.buffered > HIGH_WATER
        return False

    def send_file(self, fd: int, size: int) -> int:
        if self.writer.held is not None:
            self._decide_keep_alive(self.handler.request)  # type: ignore[union-attr]  # the caller's
        before, count, after = self.writer.file(size)
        self.stream.write_file(before, fd, 0, count)
        if after:
            self.stream.write(after)
        self._complete()
        return count

    def send_trailers(self, fields: Iterable[Field], more: bool) -> None:
        self.stream.write_parts(self.writer.trailers(fields, more=more))
        if not more:
            self._complete()

    def send_error(self, status: int, reason: str, fields: Iterable[Field] = (), *, close: bool = False) -> None:
        handler = self.handler
        if handler is None:
            return
        self._begin_error(handler.request, status, fields)
        self._decide_keep_alive(handler.request)
        self.writer.keep_alive = self.writer.keep_alive and not close
        self.stream.write_parts(self.writer.body(reason.encode(), False))
        self._complete()

    def _begin_error(self, request: Request, status: int, fields: Iterable[Field]) -> None:
        """Starts a short response of the server's own."""
        self.writer.start(request, status, [(b"content-type", b"text/plain; charset=utf-8"), *fields])

    def _decide_keep_alive(self, request: Request) -> None:
        """The response says whether the connection goes on, so it must be known when its head is written."""
        context = self.context
        if context.draining and context.hand_over is None:
            self.writer.keep_alive = False
        elif not self.reader.body_complete and (self._expects_continue or (request.content_length or 0) > MAX_DISCARD):
            # A client that was never told to go on may send its content or not (RFC 9110, section 10.1.1): where its
            # next request begins cannot be known.
            self.writer.keep_alive = False

    def _complete(self) -> None:
        """The response has been handed to the stream whole. The next request may come in."""
        if self.handler is None:  # the connection has been lost meanwhile
            return
        self.handler = None
        if not self.writer.keep_alive:
            self.close(linger=not self.reader.body_complete or self.reader.pending > 0)
        elif not self._advancing:
            self.context.loop.call_soon(self.advance)

    def _end_event_stream(self, handler: Handler) -> None:
        """If the response is an event stream, ends it as if it were complete. The client asks again, as EventSource
        does, and another worker answers."""
        writer = self.writer
        if not (writer.sends_events and (writer.held is not None or not handler.answerable)):
            return
        if writer.held is not None:
            self._decide_keep_alive(handler.request)
        try:
            parts = writer.end()
        except ApplicationError:  # less than its Content-Length
            self.abort()
        else:
            self.stream.write_parts(parts)
            if self.handler is None:  # the client has gone
                return
            self._complete()
        handler.connection_lost()

    def upgrade(
        self, handler: MessageHandler, handshake: "Handshake", subprotocol: object, fields: Iterable[Field]
    ) -> MessageTransport:
        from pounce.connections.websocket import accept  # most workers never need it

        context = self.context
        added = self.writer.added
        if added is not None:
            own = list(fields)
            fields = own if any(name.lower() == added[0] for name, _ in own) else [*own, added]
        connection = accept(context, self.stream, handler, handshake, subprotocol, fields)
        self.handler = None
        self._enter(CLOSING)
        context.connections.discard(self)
        context.connections.add(connection)
        self.stream.set_owner(connection)
        connection.early = self.reader.take_buffered()
        return connection

    def abort(self) -> None:
        self.handler = None
        self._enter(CLOSING)
        if self.writer.truncation_visible:
            self.stream.close(linger=not self.reader.body_complete)
        else:
            self.stream.abort()
