"""One WebSocket after its handshake: frames, keep-alive and end (RFC 6455, sections 5 to 7).

    OPEN            messages go both ways
    CLOSE_RECEIVED  something that ends the connection has come, behind messages that the application has not answered
                    yet. It has time to answer them; then the end is carried out
    CLOSING         our Close is sent, the client's is awaited, and whatever else comes is thrown away
    CLOSED          nothing more is sent

What came before the end is passed on to the application, whatever the end is: messages and a Close, or an illegal
frame, often come in one read.

Two bounds hold up the client. The first is messages that the application has not taken: at `--ws-max-queue` messages,
or MAX_QUEUED_BYTES, nothing more is read or decoded. The second is bytes that the client does not take: `send` waits.
Meanwhile the client's pings are answered by one pong, for the latest (section 5.5.3).

Owner: the worker's thread.
"""

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from pounce.connections.context import ConnectionContext
from pounce.connections.interface import MessageHandler
from pounce.net.byte_stream import HIGH_WATER, ByteStream
from pounce.net.write_buffer import JOIN_BELOW
from pounce.protocols.fields import Field
from pounce.protocols.h1.writer import write_fields
from pounce.protocols.ws import frames
from pounce.protocols.ws.deflate import negotiate
from pounce.protocols.ws.handshake import SERVER_FIELDS
from pounce.protocols.ws.masks import Unmasker

if TYPE_CHECKING:
    from pounce.protocols.ws.handshake import Handshake

CLOSE_TIMEOUT = 10.0
"""Seconds a client has to answer our Close with its own."""
ANSWER_GRACE = 2.0
"""Seconds the application has to answer what came before the end, until the end is carried out."""
MAX_FRAMES_PER_TURN = 128
"""Frames of one client that are decoded before other clients get their turn."""
MAX_QUEUED_BYTES = 1 << 20
"""Bytes of messages that wait for the application; the last of them may be larger."""

type State = Literal["open", "close received", "closing", "closed"]
OPEN: Final = "open"
CLOSE_RECEIVED: Final = "close received"
CLOSING: Final = "closing"
CLOSED: Final = "closed"

TRANSITIONS: dict[State, tuple[State, ...]] = {
    OPEN: (CLOSE_RECEIVED, CLOSING, CLOSED),
    CLOSE_RECEIVED: (CLOSED,),
    CLOSING: (CLOSED,),
    CLOSED: (CLOSING,),
}
"""From each state, the states that may follow. CLOSED comes before CLOSING where our Close is first."""

type CloseReason = tuple[int, str, bool]
"""How the connection ends: code, reason, and whether a Close has to be sent."""


class WebSocketContext:
    """What all WebSockets of one worker share."""

    def __init__(self, connections: ConnectionContext) -> None:
        config, loop, connection = connections.config, connections.loop, WebSocketConnection
        self.connections = connections
        self.loop = loop
        self.max_size = config.ws_max_size
        self.max_queue = config.ws_max_queue
        self.deflate = config.ws_per_message_deflate
        self.unmask = Unmasker()
        self.ping_interval = config.ws_ping_interval
        self.ping_timeout = config.ws_ping_timeout
        self.pong_window = config.limit_request_body_rate * (config.ws_ping_timeout or 0)
        """Bytes in the time for a pong that excuse a client from sending one: it may be busy with a long frame."""
        self.ping = loop.deadlines(config.ws_ping_interval or None, connection.ping)
        self.pong = loop.deadlines(config.ws_ping_timeout or None, connection.pong_timed_out)
        self.close = loop.deadlines(CLOSE_TIMEOUT, connection.close)
        self.answer_deadline = loop.deadlines(ANSWER_GRACE, connection.finish_close)
        self.window = loop.deadlines(config.timeout_websocket_drain, connection.restart)
        """Of connections that may stay open while their worker drains."""

    def end_window(self) -> None:
        for connection in list(self.window):
            connection.restart()


class WebSocketConnection:
    __slots__ = ("_close_reason", "_context", "_decoding_paused", "_head", "_ping", "_pong", "_queue", "_queued",
                 "_received_since_ping", "_state", "_wire", "_written_at", "closed_by_application", "disconnect",
                 "early", "handler", "stream")  # fmt: skip

    protocol = "WebSocket"

    def __init__(
        self,
        context: WebSocketContext,
        handler: MessageHandler,
        stream: ByteStream,
        codec: frames.FrameCodec,
        head: bytes,
    ) -> None:
        """`head` answers the handshake."""
        self.handler: MessageHandler | None = handler
        """Until the application has ended."""
        self.stream = stream
        self.disconnect: tuple[int, str] | None = None
        """Code and reason of the end, as the application is told."""
        self._context = context
        self._wire = codec
        self._state: State = OPEN
        self._queue: list[str | bytes] = []  # messages that the application has not taken
        self._queued = 0  # their size
        self._decoding_paused = False  # is decoding held up until the application takes one?
        self._close_reason: CloseReason | None = None  # what is carried out when CLOSE_RECEIVED is over
        self.closed_by_application = False
        self._written_at = -1.0  # the turn in which something was written at once
        self._ping = b""  # payload of the ping that is not answered yet
        self._pong: bytes | None = None  # of the ping to answer when the client reads again
        self._received_since_ping = 0  # bytes since that ping was sent
        self._head = head
        self.early = b""
        """What the client has sent behind the handshake."""

    def begin(self) -> None:
        self.stream.write(self._head)
        early, self.early, self._head = self.early, b"", b""
        if not self.stream.is_open:
            return
        if self._context.ping_interval:
            self._context.ping.arm(self)
        if early:
            self.data_received(early)
        else:
            self.stream.resume_reading()
        if self._context.connections.draining:
            self.drain()

    # What the stream calls

    def data_received(self, data: bytes) -> None:
        self._received_since_ping += len(data)
        self._wire.feed(data)
        self._advance()

    def eof_received(self) -> None:
        """The client says nothing more, and there is no half of a WebSocket (section 7.1.1)."""
        if self._state is CLOSING:
            self.close()
        elif self._state is OPEN:
            self._close_after_answers((frames.ABNORMAL, "", False))

    def write_resumed(self) -> None:
        if self._pong is not None:
            self._write(frames.pong(self._pong))
            self._pong = None
        if self.handler is not None:
            self.handler.writable()

    def connection_lost(self, error: OSError | None) -> None:
        code, reason, _ = self._close_reason or (frames.ABNORMAL, "", False)
        self._mark_closed(code, reason)
        self._context.connections.connection_lost(self)

    # What the client sends

    def _advance(self) -> None:
        """Decodes what has come, until the application has enough to do or the bytes run out."""
        queue, handler, most = self._queue, self.handler, self._context.max_queue
        try:
            for _ in range(MAX_FRAMES_PER_TURN):
                if self._state is OPEN:
                    if len(queue) >= most or self._queued >= MAX_QUEUED_BYTES:
                        self._decoding_paused = True  # `next_message` goes on
                        self.stream.pause_reading()
                        return
                elif self._state is not CLOSING:
                    return
                event = self._wire.next()
                if event is None:
                    self.stream.resume_reading()
                    return
                if not isinstance(event, str | bytes):
                    self._control(event)
                elif self._state is OPEN and handler is not None:
                    queue.append(event)
                    self._queued += len(event)
                    handler.message_received()
            self.stream.pause_reading()
            self._context.loop.call_soon(self._advance)
        except frames.FrameError as error:
            if self._state is OPEN:
                self._close_after_answers((error.code, error.reason, True))
            else:
                self.close()

    def _control(self, event: frames.Ping | frames.Close) -> None:
        if isinstance(event, frames.Close):
            if self._state is CLOSING:
                self.close()
            else:
                self._close_after_answers((event.code, event.reason, True))
        elif isinstance(event, frames.Pong):
            if event.payload == self._ping and self._ping:
                self._ping = b""
                self._context.pong.disarm(self)
                self._context.ping.arm(self)
        elif self._state is OPEN:
            if self.stream.buffered > HIGH_WATER:
                self._pong = event.payload
            else:
                self._write(frames.pong(event.payload))

    # What the handler calls

    def next_message(self) -> str | bytes | None:
        """The next message that has come, None when there is none."""
        if self._queue:
            data = self._queue.pop(0)
            self._queued -= len(data)
            if self._decoding_paused:
                self._decoding_paused = False
                self._advance()
            return data
        if self._state is CLOSE_RECEIVED:
            self.finish_close()
        return None

    def send(self, data: str | bytes) -> None:
        """Sends a message."""
        head, payload = self._wire.message(data)
        if len(payload) <= JOIN_BELOW:
            self._write(head + payload)
        else:
            self.stream.write_parts((head, payload))

    def close_by_application(self, code: int, reason: str) -> None:
        self.closed_by_application = True
        if self._state is CLOSE_RECEIVED:
            self.finish_close(code, reason)
        else:
            self._begin_close(code, reason)

    def application_ended(self, code: int) -> None:
        """The application has returned or raised."""
        self.handler = None
        self._queue.clear()
        self._queued = 0
        if self._state is CLOSE_RECEIVED:
            self.finish_close()
        elif self._state is OPEN:
            self._begin_close(code, "")

    @property
    def congested(self) -> bool:
        return self.stream.buffered > HIGH_WATER

    # Writing

    def _write(self, data: bytes) -> None:
        """Sends a little: at once the first time in a turn of the loop, and the rest of the turn in one piece."""
        now = self._context.loop.now
        if now != self._written_at:
            self._written_at = now
            self.stream.write(data)
        else:
            self.stream.write_soon((data,))

    # Keep-alive

    def ping(self) -> None:
        """Asks the client whether it is there, but not while decoding is paused: its answer could not be read."""
        context = self._context
        if self._state is not OPEN:
            return
        if self._decoding_paused or not context.ping_timeout:
            context.ping.arm(self)
        if not self._decoding_paused:
            self._received_since_ping = 0
            self._ping = b"%x" % int(self._context.loop.now * 1000)
            self._write(frames.ping(self._ping))
            if context.ping_timeout and self._state is OPEN:
                context.pong.arm(self)

    def pong_timed_out(self) -> None:
        context = self._context
        if self._decoding_paused:  # its pong may lie among what is not read
            context.ping.arm(self)
        elif 0 < context.pong_window <= self._received_since_ping:
            self._received_since_ping = 0
            context.pong.arm(self)
        elif self._state is OPEN:
            self._close_reason = (1011, "keepalive ping timeout", True)
            self.finish_close()

    # Ends

    def _close_after_answers(self, end: CloseReason) -> None:
        self._close_reason = end
        handler = self.handler
        if handler is not None and (self._queue or handler.handling_message):
            self._state = CLOSE_RECEIVED
            self.stream.pause_reading()
            self._context.answer_deadline.arm(self)
        else:
            self.finish_close()

    def finish_close(self, code: int | None = None, reason: str = "") -> None:
        """Ends the connection from the client's side: answers its Close, with another code if the application has
        one, or says what it has done wrong."""
        assert self._close_reason is not None
        own_code, own_reason, sends_close = self._close_reason
        if sends_close:
            self.stream.write(frames.close(own_code, own_reason) if code is None else frames.close(code, reason))
        self._mark_closed(own_code, own_reason)
        self.close()

    def _begin_close(self, code: int, reason: str) -> None:
        """Sends a Close and waits for the client's."""
        self.stream.write(frames.close(code, reason))
        if self.disconnect is None:  # else the client was gone
            self._mark_closed(code, reason)
            self._state = CLOSING
            self._context.close.arm(self)
            self._decoding_paused = False
            self._advance()

    def _mark_closed(self, code: int, reason: str) -> None:
        """Nothing more is sent: tells the application."""
        self._state = CLOSED
        context = self._context
        for queue in (context.ping, context.pong, context.answer_deadline, context.close, context.window):
            queue.disarm(self)
        if self.disconnect is None:
            self.disconnect = (code, reason)
            if self.handler is not None:
                self.handler.connection_lost()

    def close(self) -> None:
        """Ends the stream. A client that does not read what is left, or goes on sending, has the stream's time."""
        self._state = CLOSED
        self._context.close.disarm(self)
        self.stream.close(linger=True)

    def drain(self) -> None:
        """The worker drains: the connection ends now, or later where it may."""
        window = self._context.window
        if self._context.connections.hurried or not window.length:
            self.restart()
        elif self._state is OPEN and window.armed_at(self) == -inf:
            window.arm(self)

    def restart(self) -> None:
        """Closes with 1012, "service restart"."""
        if self._state is OPEN:
            self._begin_close(1012, "")


def accept(
    context: ConnectionContext, stream: ByteStream, handler: MessageHandler, handshake: "Handshake",
    subprotocol: object, fields: Iterable[Field],
) -> WebSocketConnection:  # fmt: skip
    """The WebSocket that a handshake over HTTP/1.1 asks for. `fields` are the application's. Raises
    ApplicationError."""
    own = list(fields)
    sent = handshake.check_subprotocol(subprotocol, own)
    sent += [(name, value) for name, value in own if name.lower() not in SERVER_FIELDS]
    lines = write_fields(sent)
    websockets = context.websockets
    if websockets is None:
        websockets = context.websockets = WebSocketContext(context)
    deflate = negotiate(handshake.offers, websockets.max_size) if websockets.deflate else None
    head = handshake.answer(sent, lines, context.default_fields(), deflate.answer() if deflate else None)
    codec = frames.FrameCodec(websockets.max_size, deflate, websockets.unmask)
    return WebSocketConnection(websockets, handler, stream, codec, head)
