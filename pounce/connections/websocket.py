"""One WebSocket after its handshake: its stream, its frames, its keep-alive, its end (RFC 6455, sections 5 to 7).

    OPEN      messages go both ways
    ENDING    something that ends the connection has come, after messages that the application has not answered yet.
              It has the time to do so; then the end is carried out
    CLOSING   our Close is sent, the client's is awaited, and whatever else comes is thrown away
    OVER      nothing more is sent

What came before the end is the application's, whatever the end is: messages and a Close, or an illegal frame, often
come in one read.

Two bounds hold up the client. Messages that the application has not taken: at `--ws-max-queue` of them, or QUEUED
bytes, nothing more is read from the socket or from what it gave. Bytes that the client does not take: `send` waits.
Meanwhile the client's pings are answered by one pong, for the latest (section 5.5.3).

Owner: the worker's thread.
"""

from typing import TYPE_CHECKING, Final, Literal

from pounce.connections.context import ConnectionWorker
from pounce.net.stream import HIGH_WATER, JOIN_BELOW, Stream
from pounce.protocols.ws import wire

if TYPE_CHECKING:
    from pounce.asgi.websocket import WebSocketExchange, WebSockets

FRAMES_PER_TURN = 128
"""Frames of one client that are looked at before the others get their turn."""
QUEUED = 1 << 20
"""Bytes of messages that wait for the application; the last of them may be larger."""

type State = Literal["open", "ending", "closing", "over"]
OPEN: Final = "open"
ENDING: Final = "ending"
CLOSING: Final = "closing"
OVER: Final = "over"

type End = tuple[int, str, bool]
"""How the connection ends: code, reason, and whether a Close has to be sent."""


class WebSocketConnection:
    __slots__ = ("_end", "_held", "_ping", "_pong", "_queue", "_queued", "_received", "_shared",
                 "_state", "_wire", "_written", "closed_by_application", "disconnect", "exchange", "stream",
                 "worker")  # fmt: skip

    def __init__(
        self, worker: ConnectionWorker, shared: "WebSockets", exchange: "WebSocketExchange", frames: wire.Wire,
        stream: Stream,
    ) -> None:  # fmt: skip
        self.worker = worker
        self.exchange: WebSocketExchange | None = exchange
        """Until the application has ended."""
        self.stream = stream
        self.disconnect: tuple[int, str] | None = None
        """Code and reason of the end, as the application is told."""
        self._shared = shared
        self._wire = frames
        self._state: State = OPEN
        self._queue: list[str | bytes] = []  # messages that the application has not taken
        self._queued = 0  # their size
        self._held = False  # is decoding held up until the application takes one?
        self._end: End | None = None  # what is carried out when ENDING is over
        self.closed_by_application = False
        self._written = -1.0  # the turn in which something was written at once
        self._ping = b""  # payload of the ping that is not answered yet
        self._pong: bytes | None = None  # of the ping to answer when the client reads again
        self._received = 0  # bytes since that ping was sent

    def begin(self, head: bytes, early: bytes) -> None:
        """Sends the head of the 101, and looks at what the client has sent behind its handshake."""
        self.stream.write(head)
        if self.stream.state != "open":
            return
        if self._shared.ping_interval:
            self._shared.ping.arm(self)
        if early:
            self.received(early)
        else:
            self.stream.resume_reading()
        if self.worker.draining:
            self.drain()

    # What the stream tells

    def received(self, data: bytes) -> None:
        self._received += len(data)
        self._wire.feed(data)
        self._advance()

    def ended(self) -> None:
        """The client says nothing more, and there is no half of a WebSocket (section 7.1.1)."""
        if self._state is CLOSING:
            self.close()
        elif self._state is OPEN:
            self._end_after_answers((wire.ABNORMAL, "", False))

    def drained(self) -> None:
        if self._pong is not None:
            self._write(wire.pong(self._pong))
            self._pong = None
        if self.exchange is not None:
            self.exchange.drained()

    def lost(self, error: OSError | None) -> None:
        code, reason, _ = self._end or (wire.ABNORMAL, "", False)
        self._over(code, reason)
        self.worker.connection_over(self)

    # What the client says

    def _advance(self) -> None:
        """Decodes what has come, until the application has enough to do or the bytes run out."""
        queue, exchange, most = self._queue, self.exchange, self._shared.max_queue
        try:
            for _ in range(FRAMES_PER_TURN):
                if self._state is OPEN:
                    if len(queue) >= most or self._queued >= QUEUED:
                        self._held = True  # `take` goes on
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
                elif self._state is OPEN and exchange is not None:
                    queue.append(event)
                    self._queued += len(event)
                    exchange.message_came()
            self.stream.pause_reading()
            self.worker.loop.call_soon(self._advance)
        except wire.WireError as error:
            if self._state is OPEN:
                self._end_after_answers((error.code, error.reason, True))
            else:
                self.close()

    def _control(self, event: wire.Ping | wire.Close) -> None:
        if isinstance(event, wire.Close):
            if self._state is CLOSING:
                self.close()
            else:
                self._end_after_answers((event.code, event.reason, True))
        elif isinstance(event, wire.Pong):
            if event.payload == self._ping and self._ping:
                self._ping = b""
                self._shared.pong.disarm(self)
                self._shared.ping.arm(self)
        elif self._state is OPEN:
            if self.stream.buffered > HIGH_WATER:
                self._pong = event.payload
            else:
                self._write(wire.pong(event.payload))

    # What the application does

    def take(self) -> str | bytes | None:
        """The next message that has come, None when there is none."""
        if self._queue:
            data = self._queue.pop(0)
            self._queued -= len(data)
            if self._held:
                self._held = False
                self._advance()
            return data
        if self._state is ENDING:
            self.carry_out_end()
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
        if self._state is ENDING:
            self.carry_out_end(code, reason)
        else:
            self._begin_close(code, reason)

    def application_over(self, code: int) -> None:
        """The application has returned or raised."""
        self.exchange = None
        self._queue.clear()
        self._queued = 0
        if self._state is ENDING:
            self.carry_out_end()
        elif self._state is OPEN:
            self._begin_close(code, "")

    # Writing

    def _write(self, data: bytes) -> None:
        """Sends a little: at once the first time in a turn of the loop, and the rest of the turn in one piece."""
        now = self.worker.loop.now
        if now != self._written:
            self._written = now
            self.stream.write(data)
        else:
            self.stream.write_soon((data,))

    # Keep-alive

    def ping(self) -> None:
        """Asks the client whether it is there. One that is held up cannot answer, and is not asked."""
        shared = self._shared
        if self._state is not OPEN:
            return
        if self._held or not shared.ping_timeout:
            shared.ping.arm(self)
        if not self._held:
            self._received = 0
            self._ping = b"%x" % int(self.worker.loop.now * 1000)
            self._write(wire.ping(self._ping))
            if shared.ping_timeout and self._state is OPEN:
                shared.pong.arm(self)

    def pong_missed(self) -> None:
        shared = self._shared
        if self._held:  # its pong may lie among what is not read
            shared.ping.arm(self)
        elif 0 < shared.pong_window <= self._received:
            self._received = 0
            shared.pong.arm(self)
        elif self._state is OPEN:
            self._end = (1011, "keepalive ping timeout", True)
            self.carry_out_end()

    # Ends

    def _end_after_answers(self, end: End) -> None:
        self._end = end
        exchange = self.exchange
        if exchange is not None and (self._queue or exchange.answering):
            self._state = ENDING
            self.stream.pause_reading()
            self._shared.last_words.arm(self)
        else:
            self.carry_out_end()

    def carry_out_end(self, code: int | None = None, reason: str = "") -> None:
        """Ends the connection from the client's side: answers its Close, with another code if the application has
        one, or says what it has done wrong."""
        assert self._end is not None
        own_code, own_reason, sends_close = self._end
        if sends_close:
            self.stream.write(wire.close(own_code, own_reason) if code is None else wire.close(code, reason))
        self._over(own_code, own_reason)
        self.close()

    def _begin_close(self, code: int, reason: str) -> None:
        """Sends a Close and waits for the client's."""
        self.stream.write(wire.close(code, reason))
        if self.disconnect is None:  # else the client was gone
            self._over(code, reason)
            self._state = CLOSING
            self._shared.close.arm(self)
            self._held = False
            self._advance()

    def _over(self, code: int, reason: str) -> None:
        """Nothing more is sent: tells the application."""
        self._state = OVER
        shared = self._shared
        for queue in (shared.ping, shared.pong, shared.last_words, shared.close):
            queue.disarm(self)
        if self.disconnect is None:
            self.disconnect = (code, reason)
            if self.exchange is not None:
                self.exchange.lose()

    def close(self) -> None:
        """Ends the stream. A client that does not read what is left, or goes on sending, has the stream's time."""
        self._state = OVER
        self._shared.close.disarm(self)
        self.stream.close(linger=True)

    def drain(self) -> None:
        """The worker is shutting down: 1012, "service restart"."""
        if self._state is OPEN:
            self._begin_close(1012, "")
