"""The response's side of an HTTP/1 connection: what its exchange calls to have something sent.

Owner: the worker's thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pounce.asgi.exchange import Exchange
from pounce.connections.context import ConnectionWorker
from pounce.net.listeners import Address
from pounce.net.stream import Stream
from pounce.protocols.fields import Field
from pounce.protocols.h1.reader import RequestReader
from pounce.protocols.h1.writer import CONTINUE, ResponseWriter, write_fields

DISCARD = 65536
"""Bytes of unread content that are worth reading to keep a connection; more costs more than a new one."""


class ResponseSide(ABC):
    __slots__ = ("_advancing", "client", "closing", "exchange", "reader", "stream", "thread", "worker",
                 "writer")  # fmt: skip

    worker: ConnectionWorker
    thread: int
    """The worker's, as `threading.get_ident` says: any other only passes its calls on."""
    client: Address | None
    stream: Stream
    reader: RequestReader
    writer: ResponseWriter
    exchange: Exchange | None
    """The exchange whose response is not yet complete."""
    closing: bool
    """No further request will be served."""
    _advancing: bool  # `received` is on the stack

    @abstractmethod
    def advance(self) -> None:
        """Goes on with the requests that have arrived already."""

    @abstractmethod
    def close(self, *, linger: bool = False) -> None:
        """Ends the connection, when what was sent has left."""

    def send_continue(self) -> None:
        self.stream.write(CONTINUE)

    def send_early_hint(self, exchange: Exchange, links: Iterable[bytes]) -> None:
        """A 103 (RFC 8297). HTTP/1.0 clients know no interim responses and get none."""
        lines = write_fields([(b"link", link) for link in links])
        if exchange.request.version == "1.1":
            self.stream.write(b"HTTP/1.1 103 Early Hints\r\n" + lines + b"\r\n")

    def send_head(self, exchange: Exchange) -> None:
        """Sends the head before any content."""
        held = self.writer.held
        assert held is not None
        self._decide_keep_alive(exchange)
        parts = self.writer.body(b"", True)
        if self.worker.logs_access:
            self.worker.log_access(self.client, exchange.request, held.status)
        self.stream.write_parts(parts)

    def send_body(self, exchange: Exchange, data: bytes, more: bool) -> None:
        """Sends a part of the content, with the head before the first."""
        writer = self.writer
        held = writer.held
        worker = self.worker
        if held is not None and (worker.draining or not self.reader.body_complete):
            self._decide_keep_alive(exchange)
        parts = writer.body(data, more)
        if held is not None and worker.logs_access:
            worker.log_access(self.client, exchange.request, held.status)
        if more:
            self.stream.write_soon(parts)
        elif len(parts) == 1:
            self.stream.write(parts[0])
        elif parts:
            self.stream.write_parts(parts)

    def send_file(self, exchange: Exchange, fd: int, size: int) -> None:
        """A whole file as content. Takes over `fd`, unless it raises."""
        held = self.writer.held
        if held is not None:
            self._decide_keep_alive(exchange)
        before, count, after = self.writer.file(size)
        if held is not None and self.worker.logs_access:
            self.worker.log_access(self.client, exchange.request, held.status)
        self.stream.write_file(before, fd, 0, count)
        if after:
            self.stream.write(after)

    def send_trailers(self, fields: Iterable[Field], *, more: bool) -> None:
        self.stream.write_parts(self.writer.trailers(fields, more=more))

    def _decide_keep_alive(self, exchange: Exchange) -> None:
        """The response says whether the connection goes on, so it must be known when its head is written."""
        if self.worker.draining or exchange.expects_continue:
            # A client that was never told to go on may send its content or not (RFC 9110, section 10.1.1): where
            # its next request begins cannot be known.
            self.writer.keep_alive = False
        elif not self.reader.body_complete and (exchange.request.content_length or 0) > DISCARD:
            self.writer.keep_alive = False

    def response_complete(self) -> None:
        """The response has been handed to the stream whole. The next request may come in."""
        self.exchange = None
        if self.worker.counts_requests:
            self.worker.request_answered()
        if not self.writer.keep_alive:
            self.close(linger=not self.reader.body_complete or self.reader.pending > 0)
        elif not self._advancing:
            self.worker.loop.call_soon(self.advance)
