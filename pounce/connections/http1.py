"""One HTTP/1 connection: its requests one after the other, and its deadlines. Its answers are in `http1_response`.

    client ── bytes ──► stream ── data_received ──► RequestReader ── Request ──► handler ◄──► application
    client ◄── bytes ── stream ◄── write ────────── ResponseWriter ◄──────────── handler

The connection has a state (`http1_state`), and each state its deadline: `_enter` starts the deadline of the new state
and stops that of the last one.

Owner: the worker's thread.
"""

import logging

from pounce.connections.context import ConnectionContext, DeadlineOwner, HandedOver
from pounce.connections.http1_response import MAX_DISCARD, HTTP1Transport
from pounce.connections.http1_state import (
    CLOSING,
    CONTENT,
    DRAINING,
    EXTENDED,
    HEAD,
    IDLE,
    RESPONSE,
    State,
)
from pounce.connections.interface import Handler
from pounce.kernel.deadlines import DeadlineQueue
from pounce.net.byte_stream import HIGH_WATER, ByteStream
from pounce.protocols.events import ProtocolError, Request
from pounce.protocols.h1.reader import RequestReader
from pounce.protocols.h1.writer import UNREADABLE, UNREADABLE_HEAD, ResponseWriter

MAX_PIPELINED_PER_TURN = 32
"""Requests of one connection that are answered before other connections get their turn."""

logger = logging.getLogger("pounce.error")


class HTTP1Connection(HTTP1Transport):
    __slots__ = ("_body_credit", "_deadline", "_discarded", "_eof")

    def __init__(self, context: ConnectionContext, stream: ByteStream, state: State = HEAD) -> None:
        """`state` is IDLE where the client has been served before, by another worker."""
        self.context = context
        self.stream = stream
        self.peer = stream.peer
        self.reader = RequestReader(context.limits, context.request_cache)
        self.writer = ResponseWriter(context.response_cache, context.default_fields)
        self.handler = None
        self._advancing = False
        self._expects_continue = False
        self._untaken = 0
        self._eof = False  # has the client closed its side?
        self._discarded = 0  # bytes of unread content thrown away for this request
        self._body_credit = 0.0  # bytes of content since the state became CONTENT, less the cost of extensions
        self.state = state
        self._deadline: DeadlineQueue[DeadlineOwner] | None = context.deadlines[state]
        self._deadline.arm(self)
        stream.set_owner(self)

    def _enter(self, state: State) -> None:
        """Changes the state, and starts its deadline from the beginning."""
        self.state = state
        deadline = self.context.deadlines.get(state)
        if self._deadline is not None and self._deadline is not deadline:
            self._deadline.disarm(self)
        self._deadline = deadline
        if deadline is not None:
            deadline.arm(self)

    # What the stream calls

    def data_received(self, data: bytes) -> None:
        """Serves the requests that have arrived, the last of them in `data`, until one has to wait or the bytes run
        out."""
        if self.handler is not None:
            self._receive_body(self.handler, data)
            return
        reader = self.reader
        left = MAX_PIPELINED_PER_TURN
        self._advancing = True
        try:
            while self.handler is None and self.state is not CLOSING:
                if self.stream.buffered > HIGH_WATER:  # `write_resumed` goes on
                    reader.feed(data)
                    self.stream.pause_reading()
                    self._enter(RESPONSE)
                    return
                if not reader.body_complete:
                    reader.feed(data)
                    data = b""
                    if not self._discard():
                        return
                request = reader.next_request(data) if data or reader.buffer else None
                data = b""
                if request is None:
                    self._await_head(served=left < MAX_PIPELINED_PER_TURN)
                    return
                self._serve(request)
                left -= 1
                if not left and self.handler is None and self.state is not CLOSING:
                    self._enter(RESPONSE)
                    self.context.loop.call_soon(self.advance)
                    return
        except ProtocolError as error:
            self._reject(error)
        finally:
            self._advancing = False

    def _receive_body(self, handler: Handler, data: bytes) -> None:
        reader = self.reader
        reader.feed(data)
        if not reader.body_complete:
            self._body_credit += len(data)
            self._read_body(handler)
        elif reader.pending > HIGH_WATER:  # requests ahead of their turn: enough
            self.stream.pause_reading()

    def eof_received(self) -> None:
        self._eof = True
        if self.handler is not None:
            self.handler.eof_received()
        else:
            self.advance()

    def write_resumed(self) -> None:
        if self.handler is not None:
            self.handler.writable()
        else:
            self.advance()

    def connection_lost(self, error: OSError | None) -> None:
        if self.state is not CLOSING:
            self._enter(CLOSING)
        self.context.connection_lost(self)
        handler = self.handler
        if handler is not None:
            self.handler = None
            handler.connection_lost()

    def deadline_expired(self) -> None:
        state = self.state
        if state is HEAD:
            if self.reader.has_partial_head:
                self._reject(ProtocolError(408, "the request head took too long"))
            else:  # nothing was asked, so nothing is answered
                self.close()
        elif state in (IDLE, DRAINING):
            # Bytes that came while the loop was busy elsewhere are not late: the next turn reads them, where closing
            # would reset the connection.
            if not self.stream.unread:
                self.close()
        else:
            self._body_deadline_expired(extension=state is EXTENDED)

    # Requests

    def advance(self) -> None:
        if self.handler is None:
            self.data_received(b"")

    def _await_head(self, served: bool) -> None:
        if self._eof:
            self.close()
            return
        draining = self.context.draining
        if draining and self._hand_over():
            return
        if self.reader.buffer:
            state: State = HEAD
        else:
            state = DRAINING if draining else IDLE
        # The deadline of a head is absolute: the bytes of the head do not renew it.
        if served or self.state is not HEAD:
            if state is self.state and state is not DRAINING:  # the deadline of that may have another length by now
                self._deadline.arm(self)  # type: ignore[union-attr]  # both states have one
            else:
                self._enter(state)
        if not self.stream.reading:
            self.stream.resume_reading()

    def _serve(self, request: Request) -> None:
        context, reader = self.context, self.reader
        if reader.body_complete:
            handler = self.handler = context.handle(self, request)
        else:
            handle = context.handle
            if request.asks_for_upgrade:
                if request.asks_for_websocket and context.speaks_websocket:
                    handle = context.handle_websocket
                else:
                    logger.warning("Unsupported upgrade request.")  # answered as if it did not ask
            handler = self.handler = handle(self, request)
            self._expects_continue = request.expects_continue
            self._body_credit = 0.0
            body = reader.read_body()
            self._untaken = len(body)
            handler.body_received(body, reader.body_complete)
        if self._eof:
            handler.eof = True
        handler.start()
        # A request that has been answered meanwhile has changed nothing.
        if self.handler is handler:
            if reader.body_complete or self._expects_continue:
                self._enter(RESPONSE)  # a client that waits for a 100 (Continue) has not been asked for content yet
            else:
                self._enter(CONTENT)
            if self._eof:
                handler.eof_received()  # the stream does not call again
            elif reader.pending <= HIGH_WATER:
                self.stream.resume_reading()

    # Content

    def _read_body(self, handler: Handler) -> None:
        try:
            body = self.reader.read_body()
        except ProtocolError as error:
            self._reject(error)
            return
        self._untaken += len(body)
        handler.body_received(body, self.reader.body_complete)
        if self.reader.body_complete:
            self._enter(RESPONSE)
        elif self._untaken > HIGH_WATER:  # the application does not keep up: the client is not to blame
            self._enter(RESPONSE)
            self.stream.pause_reading()

    def _await_content(self) -> None:
        self.stream.resume_reading()
        if self.state not in (CONTENT, EXTENDED, CLOSING):
            self._body_credit = 0.0
            self._enter(CONTENT)

    def _body_deadline_expired(self, *, extension: bool) -> None:
        self._body_credit = self.context.body_rate.charge(self._body_credit, extension=extension)
        if self._body_credit >= 0:
            self._enter(EXTENDED)
        elif self.handler is not None:
            self._reject(ProtocolError(408, "the content came too slowly"))
        else:
            self.close(linger=True)

    def _discard(self) -> bool:
        """Throws away content that the application has not read. False while more of it is to come, or when it is too
        much."""
        reader = self.reader
        try:
            self._discarded += len(reader.read_body())
        except ProtocolError:
            self.close(linger=True)
            return False
        if reader.body_complete:
            self._enter(RESPONSE)
            self._discarded = 0
            return True
        if self._eof or self._discarded > MAX_DISCARD:
            self.close(linger=True)
        else:
            self._await_content()
        return False

    # Ends

    def _reject(self, error: ProtocolError) -> None:
        """Answers bytes that are not legal, as far as that is still possible, and closes."""
        handler = self.handler
        self.handler = None
        if error.status != 408:
            logger.warning("Invalid HTTP request received: %s.", error.reason)
        if handler is None or handler.answerable:
            unreadable = UNREADABLE_HEAD if self.reader.wants_head_only else UNREADABLE
            self._begin_error(unreadable if handler is None else handler.request, error.status, ())
            if handler is not None:
                handler.status = error.status
            self.writer.keep_alive = False
            self.stream.write_parts(self.writer.body(error.reason.encode(), False))
            self.close(linger=True)
        else:
            self.abort()
        if handler is not None:
            handler.connection_lost()

    def close(self, *, linger: bool = False) -> None:
        if self.state is not CLOSING:
            self._enter(CLOSING)
        self.stream.close(linger=linger)

    def drain(self) -> None:
        if self.handler is None and self.state is not CLOSING and self.reader.body_complete and self._hand_over():
            return
        self.stream.poll()  # a request in the kernel's buffer has been accepted too
        if self.handler is not None:
            if self.context.hurried:
                self._end_event_stream(self.handler)
            return
        if self.state is CLOSING or not self.reader.body_complete:
            return
        if self.reader.has_partial_head:
            return
        context = self.context
        idle = context.deadlines[IDLE]
        if self.state is IDLE and context.loop.now - idle.armed_at(self) >= context.deadlines[DRAINING].length:
            self.close()
        else:
            self._enter(DRAINING)

    def _hand_over(self) -> bool:
        """Hands the client over, which waits for no answer, to the heir of the worker. False where that cannot be."""
        hand_over = self.context.hand_over
        if hand_over is None or self._eof:
            return False
        served = self.state is not HEAD
        stream = self.stream.detach()
        if stream is None:
            return False
        received = self.reader.take_buffered()
        self._enter(CLOSING)
        self.context.connection_lost(self)
        hand_over(HandedOver(stream, self.peer, received, served))
        return True
