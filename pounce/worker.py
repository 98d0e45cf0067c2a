"""One worker: a loop, the sockets it accepts from, its connections, its lifespan. Whether it runs on a thread or
is a process of its own is not its affair.

    STARTING   the application's lifespan is starting up
    READY      it has started; clients are not let in yet
    SERVING    accepts and serves
    DRAINING   serves what has been accepted, accepts what lies in its queue, and nothing more
    STOPPING   nothing is left to serve; the application's lifespan is shutting down
    ENDED      the loop has stopped

The application is driven by the kernel's own scheduler, or by asyncio if the application has imported it: the
worker then has a face (see `kernel.asyncio_face`), from the start or from the moment of the import.

An exception that leaves the loop is a defect of the server, not of a request. The worker then retires: it drains
like one that stops, while another takes its place at the same sockets, so that nobody's request is lost for it.

Owner: the thread that calls `run`. From other threads: only `loop.post` of the methods that say so.
"""

import contextlib
import contextvars
import enum
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from pounce.asgi.application import Loaded, coroutine_of
from pounce.asgi.exchange import Exchange, Scope
from pounce.asgi.http1 import HTTP1Connection
from pounce.asgi.lifespan import Lifespan
from pounce.config import Config
from pounce.imports import when_imported
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver, Task, spawn
from pounce.logging import AccessLog
from pounce.net.acceptor import Acceptor
from pounce.net.listeners import Address, Listener, refuse_new_connections
from pounce.net.stream import StreamDeadlines
from pounce.protocols.events import Request
from pounce.protocols.h1.reader import Limits

if TYPE_CHECKING:
    from pounce.kernel.asyncio_face import Face

type Spawn = Callable[..., Driver | None]

LAST_CALL = 0.5
"""Seconds a connection that was busy just now is kept while draining. HTTP/1.1 has no way to say goodbye between
two responses: a client that has just got one may have its next request on the way."""
LAST_ACCEPT = 0.1
"""Seconds in which handshakes that have begun may end, after new ones are refused."""
LINGER = 5.0
"""Seconds a client may go on sending after the last response, before it is cut off."""
CANCEL_GRACE = 1.0
"""Seconds a cancelled application has for its own clean-up."""
LIFESPAN_BOUND = 30.0
"""Seconds for the lifespan's shutdown where the graceful time-out does not say it."""
PATIENCE = 10
"""Errors of the loop after which a retiring worker gives its connections up."""

logger = logging.getLogger("pounce.error")


class Phase(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPING = "stopping"
    ENDED = "ended"


class Report(enum.Enum):
    """What a worker tells its supervisor."""

    READY = "ready"
    FAILED = "failed"
    """Its application did not start. The worker ends."""
    RETIRING = "retiring"
    """It has reached its request limit, drains, and needs a successor."""
    CRASHED = "crashed"
    """Its loop has failed; it drains, and needs a successor."""
    ENDED = "ended"
    """The last report."""


class Worker:
    def __init__(
        self,
        number: int,
        config: Config,
        loaded: Loaded,
        listeners: list[Listener],
        report: Callable[["Worker", Report], object],
        loop: Loop | None = None,
    ) -> None:
        self.number = number
        self.config = config
        self.loaded = loaded
        self.loop = loop if loop is not None else Loop()
        self.phase = Phase.STARTING
        self.connections: set[HTTP1Connection] = set()
        self.exchanges: set[Exchange] = set()
        """Exchanges whose application is still running, which it may be after the response is complete."""
        self.failed = False
        """Did the loop or the lifespan fail?"""
        self._report = report
        self._listeners = listeners
        self._acceptors: list[Acceptor] = []
        self._lifespan = Lifespan(config.lifespan)
        self._lifespan_task: Driver | None = None
        self._face: Face | None = None
        self._spawn: Spawn = partial(spawn, self.loop)
        self._served = 0
        self._request_limit = inf
        if config.limit_max_requests is not None:
            self._request_limit = config.limit_max_requests + random.randint(0, config.limit_max_requests_jitter)
        self._errors = 0
        self._thread = 0
        self._closing_accept = False
        self._default_fields = b""
        self._default_fields_until = -inf
        self._access_log = AccessLog()
        self._prepare(config)

    def _prepare(self, config: Config) -> None:
        """Copies what the request path needs, so that no two workers touch one object."""
        loop = self.loop
        self.limits = Limits(
            head=config.limit_request_head,
            fields=config.limit_request_fields,
            target=config.limit_request_target,
            body=config.limit_request_body,
        )
        self.root_path = config.root_path.rstrip("/") if config.root_path != "/" else ""
        self.asgi_version = self.loaded.asgi_version
        self.state = self._lifespan.state
        self.stream_deadlines = StreamDeadlines(loop, _length(config.timeout_write), LINGER)
        connection = HTTP1Connection
        self.head_deadline = loop.deadlines(_length(config.timeout_request_head), connection.head_deadline_expired)
        self.keep_alive_deadline = loop.deadlines(_length(config.timeout_keep_alive), connection.close)
        self.body_deadline = loop.deadlines(_length(config.timeout_request_body), connection.body_deadline_expired)
        self.last_call = loop.deadlines(LAST_CALL, connection.close)
        self.body_window = config.limit_request_body_rate * (config.timeout_request_body or 0)
        self._limit_concurrency = inf if config.limit_concurrency is None else config.limit_concurrency
        fixed = [(name.lower(), value) for name, value in config.headers]
        if config.server_header and "server" not in dict(fixed):
            fixed.insert(0, ("server", "pounce"))
        self._fixed_fields = "".join(f"{name}: {value}\r\n" for name, value in fixed).encode("latin-1")

    # Life

    def run(self) -> None:
        """Turns the loop until the worker has ended."""
        self._thread = threading.get_ident()
        ignore = when_imported("asyncio", self._asyncio_imported)
        try:
            self.start()
            while self.phase is not Phase.ENDED or not (self._face is None or self._face.closed):
                try:
                    self._turn()
                except BaseException:
                    self._loop_failed()
        finally:
            ignore()
        self.loop.close()
        self._report(self, Report.ENDED)

    def _turn(self) -> None:
        if self._face is None:
            self.loop.turn()
        else:
            self._face.run()  # as long as there is a worker

    def _asyncio_imported(self) -> None:
        """The application has imported asyncio, now or before. On whichever thread it did."""
        if threading.get_ident() == self._thread:
            self._put_on_face()
        else:
            with contextlib.suppress(RuntimeError):  # the worker has ended
                self.loop.post(self._put_on_face)

    def _put_on_face(self) -> None:
        if self._face is not None:
            return
        from pounce.kernel.asyncio_face import Face

        face = self._face = Face(self.loop)
        self._spawn = face.spawn
        face.take_over()
        for task in (self._lifespan_task, *(exchange.task for exchange in self.exchanges)):
            if isinstance(task, Task):
                task.hand_over()

    def start(self) -> None:
        """Begins the application's lifespan; the first turns of the loop carry it on."""
        self._lifespan.startup(self._run_lifespan, self._started)

    def _run_lifespan(self, lifespan: Lifespan) -> None:
        scope = lifespan.scope(self.loaded.asgi_version)
        coroutine = coroutine_of(lambda: self.loaded.application(scope, lifespan.receive, lifespan.send))
        self._lifespan_task = self._spawn(coroutine, lifespan.finished)

    def _started(self, worked: bool) -> None:
        if self.phase is not Phase.STARTING:  # stopped meanwhile
            self._end()
        elif worked:
            self.phase = Phase.READY
            self._report(self, Report.READY)
        else:
            self.failed = True
            self._report(self, Report.FAILED)
            self._end()

    def serve(self) -> None:
        """Lets clients in. Posted by the supervisor."""
        if self.phase is not Phase.READY:
            return
        self.phase = Phase.SERVING
        for listener in self._listeners:
            self._acceptors.append(self._acceptor(listener))
            self._acceptors[-1].start()

    def _acceptor(self, listener: Listener) -> Acceptor:
        host, port = listener.address
        # A socket bound to every address of the machine does not know which one a client has used.
        known = None if host in ("0.0.0.0", "::") else (host, port)

        def accepted(sock: socket.socket, peer: object) -> None:
            client = (peer[0], peer[1]) if isinstance(peer, tuple) else None
            self.connect(sock, client, known if known is not None else sock.getsockname()[:2])

        return Acceptor(self.loop, listener.for_worker(self.number), accepted)

    def connect(self, sock: socket.socket, client: Address | None, server: Address) -> None:
        """Takes over an accepted, non-blocking socket."""
        connection = HTTP1Connection(self, sock, client, server)
        self.connections.add(connection)
        if self.draining:
            connection.drain()

    def retire(self, why: Report = Report.RETIRING) -> None:
        """Leaves its sockets to a successor and drains."""
        if self.phase is Phase.SERVING:
            self._report(self, why)
            self._drain(closing=False)

    def stop(self) -> None:
        """Drains and ends; the sockets are closed behind it. Posted by the supervisor."""
        if self.phase is Phase.SERVING:
            self._drain(closing=True)
        elif self.phase is Phase.READY:
            self.phase = Phase.DRAINING
            self._look_for_the_end()
        elif self.phase is Phase.STARTING:
            self.phase = Phase.STOPPING
            self._cancel_lifespan()

    @property
    def draining(self) -> bool:
        return self.phase is Phase.DRAINING

    def _drain(self, *, closing: bool) -> None:
        self.phase = Phase.DRAINING
        if closing:
            for listener in self._listeners:
                refuse_new_connections(listener.for_worker(self.number))
            self._closing_accept = True
            self.loop.call_later(LAST_ACCEPT, self._stop_accepting)
        else:
            self._stop_accepting()
        for connection in list(self.connections):
            connection.drain()

    def _stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            if self._closing_accept:
                acceptor.drain()
            acceptor.stop()
        self._closing_accept = False
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self.phase is Phase.DRAINING and not (self.connections or self.exchanges or self._closing_accept):
            self.phase = Phase.STOPPING
            bound = self.config.timeout_graceful_shutdown or LIFESPAN_BOUND
            self.loop.call_later(bound, lambda: self._lifespan_stuck(bound))
            self._lifespan.shutdown(self._shut_down)

    def _lifespan_stuck(self, bound: float) -> None:
        if self.phase is Phase.STOPPING:
            logger.error("Application shutdown has not ended within %g seconds; it is cancelled.", bound)
            self.failed = True
            self._cancel_lifespan()

    def _cancel_lifespan(self) -> None:
        if self._lifespan_task is not None:
            self._lifespan_task.cancel()
        self.loop.call_later(CANCEL_GRACE, self.abandon)

    def _shut_down(self, worked: bool) -> None:
        self.failed = self.failed or not worked
        self._end()

    def cancel(self) -> None:
        """The time for draining is over: cancels what still runs and closes what is still open. Posted by the
        supervisor."""
        if self.phase is not Phase.DRAINING:
            return
        if self._closing_accept:
            self._stop_accepting()
        running = list(self.exchanges)
        if running:
            logger.error("Cancel %s running task(s), timeout graceful shutdown exceeded", len(running))
        for exchange in running:
            logger.error("Cancelled: %s", describe(exchange))
            exchange.cancel()
        for connection in list(self.connections):
            if connection.exchange is None:
                connection.close()
        self.loop.call_later(CANCEL_GRACE, self._give_up)

    def _give_up(self) -> None:
        """What a cancelled exchange could still say has been said."""
        self.exchanges.clear()
        for connection in list(self.connections):
            connection.stream.abort()
        self._look_for_the_end()

    def abandon(self) -> None:
        """Ends at once, whatever is left. Posted by the supervisor."""
        for connection in list(self.connections):
            connection.stream.abort()
        self._end(in_order=False)

    def _end(self, *, in_order: bool = True) -> None:
        self._access_log.flush()
        self.phase = Phase.ENDED
        if self._face is not None and in_order:
            self._face.end(CANCEL_GRACE)
        elif self._face is not None:
            self._face.abandon()

    def _loop_failed(self) -> None:
        self._errors += 1
        self.failed = True
        logger.critical("The loop of worker %s failed; the worker is being replaced.", self.number + 1, exc_info=True)
        if self.phase is Phase.SERVING:
            self.retire(Report.CRASHED)
        elif self._errors > PATIENCE or self.phase is not Phase.DRAINING:
            self.abandon()

    # What a connection asks

    def run_exchange(self, exchange: Exchange, scope: Scope) -> None:
        """Calls the application, and drives it in place until it first has to wait."""
        self.exchanges.add(exchange)
        application = self.loaded.application
        coroutine = coroutine_of(lambda: application(scope, exchange.receive, exchange.send))
        context = contextvars.Context() if self.config.reset_contextvars else None
        exchange.task = self._spawn(coroutine, exchange.finished, context)

    def exchange_over(self, exchange: Exchange) -> None:
        self.exchanges.discard(exchange)
        if self.phase is Phase.DRAINING:
            self._look_for_the_end()

    def connection_over(self, connection: HTTP1Connection) -> None:
        self.connections.discard(connection)
        if self.phase is Phase.DRAINING:
            self._look_for_the_end()

    def request_answered(self) -> None:
        self._served += 1
        if self._served >= self._request_limit and self.phase is Phase.SERVING:
            logger.info("Maximum request limit of %d exceeded.", self._request_limit)
            self.loop.call_soon(self.retire)

    def overloaded(self) -> bool:
        return len(self.connections) > self._limit_concurrency or len(self.exchanges) >= self._limit_concurrency

    def default_fields(self) -> bytes:
        """Field lines that every response gets, with the date of this second (RFC 9110, section 6.6.1)."""
        if self.loop.now >= self._default_fields_until:
            now = time.time()
            self._default_fields_until = self.loop.now + 1 - now % 1
            self._default_fields = self._fixed_fields
            if self.config.date_header:
                self._default_fields += f"date: {formatdate(int(now), usegmt=True)}\r\n".encode("ascii")
        return self._default_fields

    def log_access(self, connection: HTTP1Connection, request: Request, status: int) -> None:
        log = self._access_log
        if log.enabled:
            client = f"{connection.client[0]}:{connection.client[1]}" if connection.client is not None else ""
            path = self.root_path + request.path.decode("ascii")
            if request.query:
                path += "?" + request.query.decode("ascii")
            if log.record(client, request.method, path, request.version, status):
                self.loop.call_soon(log.flush)


def _length(timeout: float | None) -> float:
    return inf if timeout is None else float(timeout)


def describe(exchange: Exchange) -> str:
    """An exchange for the log: the request, and the innermost line of the application that waits."""
    request = exchange.request
    places = exchange.task.stack() if exchange.task is not None else []
    own = [place for place in places if not place[0].startswith(_PACKAGE)]
    where = " in {2} ({0}:{1})".format(*(own or places)[-1]) if places else ""
    return f"{request.method} {request.path.decode('ascii')}{where}"


_PACKAGE = os.path.dirname(__file__)
