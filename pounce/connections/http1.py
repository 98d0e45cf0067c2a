"""One HTTP/1 connection: its stream, its requests one after the other, its deadlines.

    client ── bytes ──► Stream ── received ──► RequestReader ── Request ──► Exchange ◄──► application
    client ◄── bytes ── Stream ◄── write ──── ResponseWriter ◄──────────── Exchange

A connection is always in one of these situations, and each has its deadline:

    no head yet           head deadline, from the first byte (or the accept) to the end of the head
    between requests      keep-alive deadline
    content is awaited    body deadline, renewed for as long as the client keeps up a least rate
    application at work   none of ours
    worker is draining    last call, for the next request of a client that was busy just now
    unread content        the response is over, its request is not: thrown away up to a bound, body deadline
    closing               the stream's own

Owner: the worker's thread.
"""

import logging
import socket
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pounce.asgi.exchange import Exchange
from pounce.asgi.scope import http_scope
from pounce.connections.context import ConnectionWorker
from pounce.connections.http1_response import DISCARD, ResponseSide
from pounce.kernel.deadlines import DeadlineQueue
from pounce.net.listeners import Address
from pounce.net.stream import HIGH_WATER, Stream
from pounce.protocols.events import ProtocolError, Request
from pounce.protocols.fields import Field
from pounce.protocols.h1.reader import RequestReader
from pounce.protocols.h1.writer import UNKNOWN, UNKNOWN_HEAD, ResponseWriter

if TYPE_CHECKING:
    from pounce.connections.websocket import WebSocketConnection

PIPELINED_PER_TURN = 32
"""Requests of one connection that are answered before the others get their turn."""

logger = logging.getLogger("pounce.error")


class HTTP1Connection(ResponseSide):
    __slots__ = ("_came", "_deadline", "_discarded", "_ended", "server")

    def __init__(
        self, worker: ConnectionWorker, sock: socket.socket, client: Address | None, server: Address | None
    ) -> None:
        self.worker = worker
        self.thread = worker.foreign.thread
        self.client = client
        self.server = server
        self.reader = RequestReader(worker.limits, worker.request_memory)
        self.writer = ResponseWriter(worker.response_memory, worker.default_fields)
        self.exchange = None
        self.closing = False
        self._advancing = False
        self._ended = False  # the client has closed its side
        self._discarded = 0  # bytes of unread content thrown away for this request
        self._came = 0.0  # bytes of content since the first of its deadlines was armed, less what they have cost
        self.stream = Stream(worker.loop, sock, self, worker.stream_bounds)
        self._deadline: DeadlineQueue[HTTP1Connection] | None = worker.head_deadline
        worker.head_deadline.arm(self)

    # What the stream tells

    def received(self, data: bytes) -> None:
        """Serves the requests that have arrived, the last of them in `data`, until one has to wait or the bytes run
        out."""
        if self.exchange is not None:
            self._receive_more(self.exchange, data)
            return
        reader = self.reader
        left = PIPELINED_PER_TURN
        self._advancing = True
        try:
            while self.exchange is None and not self.closing:
                if self.stream.buffered > HIGH_WATER:  # `drained` goes on
                    reader.feed(data)
                    self.stream.pause_reading()
                    self._set_deadline(None)  # it is the response that has one
                    return
                if not reader.body_complete:
                    reader.feed(data)
                    data = b""
                    if not self._discard():
                        return
                request = reader.next_request(data) if data or reader.buffer else None
                data = b""
                if request is None:
                    self._await_head(served=left < PIPELINED_PER_TURN)
                    return
                self._serve(request)
                left -= 1
                if not left:
                    self._set_deadline(None)
                    self.worker.loop.call_soon(self.advance)
                    return
        except ProtocolError as error:
            self._refuse(error)
        finally:
            self._advancing = False

    def _receive_more(self, exchange: Exchange, data: bytes) -> None:
        self.reader.feed(data)
        if not exchange.body_complete:
            self._came += len(data)
            self._read_body(exchange)
        elif self.reader.pending > HIGH_WATER:  # requests ahead of their turn: enough
            self.stream.pause_reading()

    def ended(self) -> None:
        self._ended = True
        if self.exchange is not None:
            self.exchange.end()
            if self.worker.cancel_on_disconnect:
                self.exchange.cancel()
        else:
            self.advance()

    def drained(self) -> None:
        if self.exchange is not None:
            self.exchange.drained()
        else:
            self.advance()

    def lost(self, error: OSError | None) -> None:
        self.closing = True
        self._set_deadline(None)
        self.worker.connection_over(self)
        if self.exchange is not None:
            self.exchange.lose()
            if self.worker.cancel_on_disconnect:
                self.exchange.cancel()
            self.exchange = None

    # Requests

    def advance(self) -> None:
        if self.exchange is None:
            self.received(b"")

    def _await_head(self, served: bool) -> None:
        worker = self.worker
        if self._ended:
            self.close()
            return
        if served or self._deadline is not worker.head_deadline:  # absolute: not renewed by every byte
            if self.reader.buffer:
                queue = worker.head_deadline
            else:
                queue = worker.last_call if worker.draining else worker.keep_alive_deadline
            if queue is self._deadline:
                queue.arm(self)
            else:
                self._set_deadline(queue)
        if not self.stream.reading:
            self.stream.resume_reading()

    def head_deadline_expired(self) -> None:
        if self.reader.begun:
            self._refuse(ProtocolError(408, "the request head took too long"))
        else:  # nothing was asked, so nothing is answered
            self.close()

    def idle_too_long(self) -> None:
        """What came while the loop was busy elsewhere is not late: the next turn reads it, where closing would reset
        it."""
        if not self.stream.unread:
            self.close()

    def _serve(self, request: Request) -> None:
        worker = self.worker
        reader = self.reader
        exchange = self.exchange = Exchange(self, request)
        if not reader.body_complete:
            self._came = 0.0
            exchange.expects_continue = request.expects_continue
            exchange.feed(reader.read_body(), reader.body_complete)
            if request.asks_for_upgrade:
                if request.asks_for_websocket and worker.speaks_websocket:
                    self._serve_websocket(request)
                    return
                logger.warning("Unsupported upgrade request.")  # answered as if it did not ask
        if self._ended:
            exchange.ended = True
        if not worker.limited or worker.admission.admit(exchange):
            worker.run_exchange(exchange, http_scope(self, request))
        # An application that never waits is over now, and nothing has to be changed for it.
        if self.exchange is exchange:
            # Who waits for a 100 (Continue) has not been asked for content yet.
            self._set_deadline(None if exchange.body_complete or exchange.expects_continue else worker.body_pace.first)
            if reader.pending <= HIGH_WATER:
                self.stream.resume_reading()

    def admitted(self, exchange: Exchange) -> None:
        self.worker.run_exchange(exchange, http_scope(self, exchange.request))

    def _serve_websocket(self, request: Request) -> None:
        from pounce.asgi.websocket import serve  # most workers never need it

        self._set_deadline(None)
        serve(self, request, http_scope(self, request), ended=self._ended)
        if self.exchange is not None and self.reader.pending <= HIGH_WATER:
            self.stream.resume_reading()

    # Content

    def _read_body(self, exchange: Exchange) -> None:
        try:
            body = self.reader.read_body()
        except ProtocolError as error:
            self._refuse(error)
            return
        exchange.feed(body, self.reader.body_complete)
        if self.reader.body_complete:
            self._set_deadline(None)
        elif exchange.body_waiting > HIGH_WATER:  # the application does not keep up: the client waits, unblamed
            self._set_deadline(None)
            self.stream.pause_reading()

    def want_body(self) -> None:
        """The application has taken what there was, and there is more to come."""
        self.stream.resume_reading()
        self._await_body()

    def _await_body(self) -> None:
        pace = self.worker.body_pace
        if self._deadline not in (pace.first, pace.second) and not self.closing:
            self._came = 0.0
            self._set_deadline(pace.first)

    def body_deadline_expired(self) -> None:
        """The client had its time. Who keeps up a least rate gets another second."""
        pace = self.worker.body_pace
        self._came = pace.pay(self._came, self._deadline)
        if self._came >= 0:
            self._set_deadline(pace.second)
        elif self.exchange is not None:
            self._refuse(ProtocolError(408, "the content came too slowly"))
        else:
            self.close(linger=True)

    def _discard(self) -> bool:
        """Throws away content that nobody has read. False while more of it is to come, or when it is too much."""
        try:
            self._discarded += len(self.reader.read_body())
        except ProtocolError:
            self.close(linger=True)
            return False
        if self.reader.body_complete:
            self._set_deadline(None)
            self._discarded = 0
            return True
        if self._ended or self._discarded > DISCARD:
            self.close(linger=True)
        else:
            self.stream.resume_reading()
            self._await_body()
        return False

    # Refusals and ends

    def _refuse(self, error: ProtocolError) -> None:
        """Answers what cannot be served, as far as that is still possible, and closes."""
        exchange = self.exchange
        self.exchange = None
        if error.status != 408:
            logger.warning("Invalid HTTP request received: %s.", error.reason)
        if exchange is None or exchange.answerable:
            unknown = UNKNOWN_HEAD if self.reader.wants_head_only else UNKNOWN
            request = unknown if exchange is None else exchange.request
            self._begin_answer(request, error.status)
            self.writer.keep_alive = False
            self.stream.write_parts(self.writer.body(error.reason.encode(), False))
            self.close(linger=True)
        else:
            self.cut()
        if exchange is not None:
            exchange.lose()

    def fail(self, status: int, reason: str, *, close: bool = False, fields: Iterable[Field] = ()) -> None:
        """Answers the current request in place of the application."""
        exchange = self.exchange
        assert exchange is not None
        if self.worker.logs_access or exchange.request.asks_for_websocket:
            self.worker.log_access(self.client, exchange.request, status)
        self._begin_answer(exchange.request, status, fields)
        self._decide_keep_alive(exchange)
        self.writer.keep_alive = self.writer.keep_alive and not close
        self.stream.write_parts(self.writer.body(reason.encode(), False))
        self.response_complete()

    def _begin_answer(self, request: Request, status: int, fields: Iterable[Field] = ()) -> None:
        """Starts a short response of the server's own."""
        self.writer.start(request, status, [(b"content-type", b"text/plain; charset=utf-8"), *fields])

    def cut(self) -> None:
        """The response cannot be completed: ends the connection so that the client notices."""
        self.exchange = None
        self._set_deadline(None)
        self.closing = True
        if self.writer.cut_shows:
            self.stream.close(linger=not self.reader.body_complete)
        else:
            self.stream.abort()

    def close(self, *, linger: bool = False) -> None:
        self.closing = True
        self._set_deadline(None)
        self.stream.close(linger=linger)

    def hand_over(self, socket: "WebSocketConnection") -> bytes:
        """From here on the stream is the WebSocket's. Gives what the client has sent behind its handshake."""
        self.closing = True
        self.exchange = None
        self.worker.connection_replaced(self, socket)
        if self.worker.counts_requests:
            self.worker.request_answered()
        self.stream.hand_over(socket)
        return self.reader.take_rest()

    def drain(self) -> None:
        """Serves what has been asked, and nothing more."""
        self.stream.read_now()  # a request in the kernel's buffer has been accepted too
        if self.closing or self.exchange is not None or self.reader.begun or not self.reader.body_complete:
            return
        worker = self.worker
        idle = self._deadline is worker.keep_alive_deadline
        if idle and worker.loop.now - worker.keep_alive_deadline.armed_at(self) >= worker.last_call.length:
            self.close()
        else:
            self._set_deadline(worker.last_call)

    def _set_deadline(self, queue: "DeadlineQueue[HTTP1Connection] | None") -> None:
        """Starts the deadline of the situation the connection is in now; ends that of the last one."""
        if self._deadline is not None and self._deadline is not queue:
            self._deadline.disarm(self)
        self._deadline = queue
        if queue is not None:
            queue.arm(self)


def prepare_websockets(worker: ConnectionWorker) -> None:
    """Loads what WebSockets need, so that the first handshake does not wait for it. A plain application may never
    need the 2 to 5 MiB; beside a framework they do not matter."""
    if worker.speaks_websocket and "asyncio" in sys.modules:
        import pounce.asgi.websocket  # noqa: F401
