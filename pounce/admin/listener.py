"""The admin listener: a listening socket of its own, whose clients are served on the supervisor's loop. So it answers
while every worker is blocked.

It speaks HTTP/1 as a worker does, with the same deadlines, at their defaults: what the operator sets is for the
clients of the application. There are MAX_CONNECTIONS at most. One more takes the place of the one that has been idle
for the longest time, so that a probe is not kept out by clients that only hold connections.

Nothing waits for its clients: the server's end closes what is left.

Owner: the supervisor's thread.
"""

import contextlib
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from pounce.admin.probes import Route
from pounce.config.config import Config
from pounce.connections.context import DRAIN_IDLE, Connection, ConnectionContext
from pounce.connections.http1 import HTTP1Connection
from pounce.connections.http1_state import HEAD, IDLE
from pounce.connections.interface import Handler, Transport
from pounce.connections.opening import open_connection
from pounce.connections.own_response import OwnExchange, OwnResponse
from pounce.kernel.loop import Loop
from pounce.net.acceptor import Acceptor
from pounce.net.address import Address
from pounce.net.listeners import Listener
from pounce.protocols.events import Request

MAX_CONNECTIONS = 64
"""Each probe needs one, for a moment."""
BACKLOG = 128
MAX_FAILURES = 10
"""After one more the listener is closed: a defect that comes with each client must not fill the log for ever."""
NOT_FOUND = OwnResponse(404, b"not found\n")

logger = logging.getLogger("pounce.error")


class AdminListener:
    def __init__(self, loop: Loop, listeners: Sequence[Listener], config: Config, routes: Mapping[str, Route]) -> None:
        """`config` is the server's; the listeners stay the caller's."""
        self._listeners = listeners
        self._routes = routes
        self._connections: set[Connection] = set()
        own = Config(
            "", workers=1, ws="none", forwarded_allow_ips=(),  # nothing of the environment
            server_header=config.server_header, date_header=config.date_header,
        )  # fmt: skip
        self._context = ConnectionContext(loop, own, self._handle, self._handle, self._connections, (), lambda: None)
        self._acceptors = [
            Acceptor(loop, sock, partial(self._accepted, listener.address), may_be_shut_down=True)
            for listener in listeners
            for sock in listener.sockets
        ]
        self._started = False
        self._failures = 0

    def start(self) -> None:
        """Lets clients in, unless another server process does that at these sockets. May be called again. Raises
        StartupError."""
        if self._started or any(listener.inherited for listener in self._listeners):
            return
        self._started = True
        for listener in self._listeners:
            listener.listen(BACKLOG)
        for acceptor in self._acceptors:
            acceptor.start()
        paths = ", ".join(self._routes)
        for listener in self._listeners:
            logger.info("Admin listener on %s: %s", listener.url, paths)

    def stop(self) -> None:
        """The server stops. Where another process goes on at these sockets, the clients are left to that; else they are
        served until `close`."""
        if any(listener.inherited for listener in self._listeners):
            self._stop_accepting()
            self._context.drain(DRAIN_IDLE)

    def failed(self) -> None:
        """An exception has left the loop, and is being handled. The turn's rest comes with the next one."""
        self._failures += 1
        logger.critical("The admin listener has failed. Its connections are closed.", exc_info=True)
        if self._failures > MAX_FAILURES:
            logger.critical("The admin listener has failed %d times. It is closed.", self._failures)
            self._stop_accepting()
            for listener in self._listeners:
                listener.shut_down()
        for connection in list(self._connections):
            with contextlib.suppress(Exception):
                connection.stream.abort()
        self._connections.clear()

    def _stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            acceptor.stop()

    def close(self) -> None:
        """Ends it now, whatever its clients do."""
        self._stop_accepting()
        for connection in list(self._connections):
            connection.stream.close_now()

    def sockets(self) -> Iterator[socket.socket]:
        """All that are open."""
        for listener in self._listeners:
            yield from listener.sockets
        for connection in self._connections:
            yield connection.stream.sock

    def _accepted(self, server: Address, sock: socket.socket, name: object) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            self._make_room()
        client = (name[0], name[1]) if isinstance(name, tuple) else None
        open_connection(self._context, sock, client, server).stream.poll()

    def _make_room(self) -> None:
        """Closes the connection that has been idle, or has not completed a head, for the longest time. If there is
        none, any: its client has been answered, and only goes on sending, or does not read."""
        for state in (IDLE, HEAD):
            for connection in self._context.deadlines[state]:
                if isinstance(connection, HTTP1Connection):
                    connection.stream.close_now()
                    return
        next(iter(self._connections)).stream.close_now()

    def _handle(self, transport: Transport, request: Request) -> Handler:
        route = self._routes.get(request.text)
        return OwnExchange(transport, request, route if route is not None else lambda: NOT_FOUND)
