"""What all connections of one worker share.

Owner: the worker's thread. Each worker has its own, so that no two touch one object on the path of a request.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Protocol

from pounce.config.config import Config
from pounce.connections.body_rate import EXTENSION, BodyRate
from pounce.connections.default_fields import DefaultFields
from pounce.connections.http1_state import CONTENT, DRAINING, EXTENDED, HEAD, IDLE, State
from pounce.connections.interface import Handler, Transport
from pounce.kernel.deadlines import DeadlineQueue
from pounce.kernel.loop import Loop
from pounce.net.byte_stream import ByteStream, Detached, Peer
from pounce.net.progress import Progress, Sender
from pounce.protocols.events import Request
from pounce.protocols.h1.reader import HeadCache, Limits
from pounce.protocols.h1.writer import ResponseCache

DRAIN_IDLE = 0.5
"""Seconds that an idle connection is kept after its last response, while draining. HTTP/1.1 has no way to announce the
end between two responses: a client that has just got one may have its next request on the way."""
RETIRE_IDLE = 5.0  # the same for a worker that retires: the server goes on, and nothing waits for the worker's end
DRAINED_PER_TURN = 64
"""Connections that are told in one turn: thousands of idle ones must not hold up those that are busy."""
HEIR_PAUSE = 0.001
"""Seconds until a congested heir is asked again."""
PROXY_HEADER_TIMEOUT = 10.0
"""Seconds from the accept to the end of the header of the PROXY protocol. A proxy sends it first and at once; the
specification wants at least 3, for a packet that is lost."""
LINGER_TIMEOUT = 5.0
"""Seconds in which a client must send or acknowledge something after its last response (`net.stream`)."""


class Connection(Protocol):
    """A connection of any protocol, as its worker knows it."""

    protocol: str
    """For the log: "HTTP" or "WebSocket"."""

    @property
    def stream(self) -> ByteStream: ...
    @property
    def handler(self) -> object | None:
        """What runs the application for the request that is not answered yet, or for the WebSocket."""

    def drain(self) -> None:
        """Answers what the client has asked for already, and then ends. May be called again, when the worker has to end
        sooner."""

    def close(self) -> None:
        """Ends the connection, when what was sent has left."""


class HandedOver(NamedTuple):
    """A connection that waits for a request, between the worker that gives it up and the one that goes on with it."""

    stream: Detached
    peer: Peer
    received: bytes
    """A part of the next request."""
    served: bool
    """Has the client asked for something before?"""


class HandOver(Protocol):
    """The way to the heir."""

    def __call__(self, connection: HandedOver) -> None:
        """Hands the connection over, or goes on with it here where the heir does not take it."""

    @property
    def congested(self) -> bool:
        """Has the heir not gone on yet with many that it was given? Then those that wait are better served here."""


class DeadlineOwner(Protocol):
    def deadline_expired(self) -> None: ...


class ConnectionContext:
    def __init__(
        self,
        loop: Loop,
        config: Config,
        handle: Callable[[Transport, Request], Handler],
        handle_websocket: Callable[[Transport, Request], Handler],
        connections: "set[Connection]",
        senders: Collection[Sender],
        closed: Callable[[], object],
    ) -> None:
        """`handle` and `handle_websocket` make the handler of a request; `connections` are those that are open,
        `senders` may be sending on a stream; `closed` is called when a connection has gone."""
        self.loop = loop
        self.config = config
        self.handle = handle
        self.handle_websocket = handle_websocket
        self.draining = False
        self.hurried = False
        """Does the worker drain for a reload, so that what would last as long as the client likes ends at once?"""
        self.hand_over: HandOver | None = None
        """Set while the worker drains and has an heir, which serves the clients from their next requests on."""
        self.connections = connections
        self._to_drain: list[Connection] = []
        """Those that do not know yet that the worker drains."""
        self._closed = closed
        self.limits = Limits(
            head=config.limit_request_head,
            fields=config.limit_request_fields,
            target=config.limit_request_target,
            body=config.limit_request_body,
        )
        self.request_cache = HeadCache()
        self.response_cache = ResponseCache()
        self.default_fields = DefaultFields(config, loop).lines
        self.progress = Progress(loop, config.timeout_write, LINGER_TIMEOUT, senders)
        self.body_rate = BodyRate(config.limit_request_body_rate, config.timeout_request_body)
        self._drain_idle = {length: self._deadline(length) for length in (DRAIN_IDLE, RETIRE_IDLE)}
        self.deadlines: dict[State, DeadlineQueue[DeadlineOwner]] = {
            HEAD: self._deadline(config.timeout_request_head),
            IDLE: self._deadline(config.timeout_keep_alive),
            CONTENT: self._deadline(config.timeout_request_body),
            EXTENDED: self._deadline(EXTENSION),
            DRAINING: self._drain_idle[DRAIN_IDLE],
        }
        """The deadline of each state of HTTP/1 that has one."""
        self.speaks_websocket = config.ws != "none"
        self.websockets: Any = None
        """The WebSocketContext, made when the first WebSocket is accepted."""

    def _deadline(self, length: float | None) -> DeadlineQueue[DeadlineOwner]:
        return self.loop.deadlines(length, _expired)

    def drain(self, idle: float, hand_over: HandOver | None = None, *, hurry: bool = False) -> None:
        """Lets every connection answer what it has been asked, and end; an idle one after `idle` seconds. With
        `hand_over`, one that waits for a request does not end but is handed over. With `hurry`, WebSockets and event
        streams end at once."""
        self.draining = True
        self.hand_over = hand_over
        self.hurried = self.hurried or hurry
        self.deadlines[DRAINING] = self._drain_idle[idle]
        # From the end: those that wait for a request come last, because nothing waits for them.
        self._to_drain = sorted(self.connections, key=lambda connection: connection.handler is not None)
        self._drain_some()

    def _drain_some(self) -> None:
        some = self._to_drain[-DRAINED_PER_TURN:]
        if some and some[-1].handler is None and self.hand_over is not None and self.hand_over.congested:
            self.loop.call_later(HEIR_PAUSE, self._drain_some)
            return
        del self._to_drain[-DRAINED_PER_TURN:]
        for connection in some:
            connection.drain()
        if self._to_drain:
            self.loop.call_soon(self._drain_some)

    def end_drain(self) -> None:
        """The time for draining is over: tells all connections that were not told yet, and closes the WebSockets that
        may stay for `--timeout-websocket-drain`."""
        while self._to_drain:
            self._to_drain.pop().drain()
        if self.websockets is not None:
            self.websockets.end_window()

    def connection_lost(self, connection: Connection) -> None:
        """The connection has gone, or has been handed over."""
        self.connections.discard(connection)
        self._closed()

    @property
    def first_byte_timeout(self) -> float:
        """Seconds that a client has to send something after it was accepted."""
        return PROXY_HEADER_TIMEOUT if self.config.proxy_protocol else self.deadlines[HEAD].length

    def idle_since(self, when: float) -> int:
        """How many connections have been idle since `when`, in seconds of the loop's clock."""
        return self.deadlines[IDLE].armed_before(when)


def _expired(connection: DeadlineOwner) -> None:
    connection.deadline_expired()
