"""One worker: a loop, the sockets it accepts from, its connections, its lifespan. Whether it runs on a thread or
is a process of its own is not its affair.

    STARTING   the application's lifespan is starting up
    READY      it has started; clients are not let in yet
    SERVING    accepts and serves
    DRAINING   serves what has been accepted, accepts what lies in its queue, and nothing more
    STOPPING   nothing is left to serve; the application's lifespan is shutting down
    ENDED      the loop has stopped

An exception that leaves the loop is a defect of the server, not of a request. The worker then retires: it drains
like one that stops, while another takes its place at the same sockets, so that nobody's request is lost for it.

Owner: the thread that calls `run`. From other threads: only `loop.post` of the methods that say so.
"""

import logging
import socket
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from pounce.aio.scheduler import Scheduler
from pounce.app.loading import Loaded, call, log_failure_to_load
from pounce.app.per_worker import enter_worker, leave_worker
from pounce.app.types import Scope
from pounce.asgi.admission import Admission
from pounce.asgi.exchange import Exchange
from pounce.asgi.foreign import Calls
from pounce.asgi.lifespan import Lifespan
from pounce.config.config import Config
from pounce.connections.body_pace import BodyPace
from pounce.connections.connection_log import connections
from pounce.connections.context import Connection
from pounce.connections.default_fields import DefaultFields
from pounce.connections.http1 import HTTP1Connection, prepare_websockets
from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver
from pounce.logging import AccessLog
from pounce.net.listeners import Address, Listener
from pounce.net.progress import StreamBounds
from pounce.protocols.events import Request
from pounce.protocols.h1.reader import Limits
from pounce.protocols.h1.reader import Memory as RequestMemory
from pounce.protocols.h1.writer import Memory as ResponseMemory
from pounce.worker.balance import Board
from pounce.worker.control import Phase, Report
from pounce.worker.intake import Reception
from pounce.worker.request_limit import RequestLimit

if TYPE_CHECKING:
    from pounce.asgi.websocket import WebSockets
    from pounce.connections.websocket import WebSocketConnection

LAST_CALL = 0.5
"""Seconds a connection that was busy just now is kept while draining. HTTP/1.1 has no way to say goodbye between
two responses: a client that has just got one may have its next request on the way."""
NO_HURRY = 5.0  # the same for a worker that retires: the server goes on, and nobody waits for its end
LAST_ACCEPT = 0.1  # seconds in which handshakes that have begun may end, after new ones are refused
LINGER = 5.0
"""Seconds a client may go on sending after it has taken the last response."""
CANCEL_GRACE = 1.0
"""Seconds a cancelled application has for its own clean-up."""
FORCED_GRACE = 0.2  # the same where the end is forced
LIFESPAN_BOUND = 30.0
"""Seconds for the lifespan's shutdown where the graceful time-out does not say it."""
PATIENCE = 10  # errors of the loop after which a retiring worker gives its connections up

logger = logging.getLogger("pounce.error")


class Worker:
    def __init__(
        self,
        number: int,
        config: Config,
        load: Callable[[], Loaded],
        listeners: list[Listener],
        report: Callable[["Worker", Report], object],
        loop: Loop | None = None,
        board: Board | None = None,
    ) -> None:
        self.number = number
        self.config = config
        self._load = load
        self.loop = loop if loop is not None else Loop()
        self.phase = Phase.STARTING
        self.draining = False
        self.connections = connections()
        self.exchanges: set[Exchange] = set()
        """Exchanges whose application is still running, which it may be after the response is complete."""
        self.exit_code = 0
        """0, 3 when the loop or the lifespan failed, or as the application's import says."""
        self._report = report
        self._lifespan_task: Driver | None = None
        self._scheduler = Scheduler(
            self.loop, lambda: [self._lifespan_task, *(exchange.task for exchange in self.exchanges)]
        )
        self.foreign = Calls(self.loop, self._scheduler)
        self.lifespan = Lifespan(config.lifespan, self.foreign)
        self._request_limit = RequestLimit(config)
        self.counts_requests = self._request_limit.counts
        self._empty_context = config.reset_contextvars
        self._errors = 0
        self.abandoned = False
        self._closing_accept = False
        self._access_log = AccessLog()
        self.logs_access = self._access_log.enabled
        self._prepare(config)
        self.reception = Reception(
            self.loop, number, listeners, board, self.connections, self.keep_alive_deadline.armed_before,
            self.head_deadline.length, self._arrived,
        )  # fmt: skip

    def _prepare(self, config: Config) -> None:
        """Copies what the request path needs, so that no two workers touch one object."""
        loop = self.loop
        self.limits = Limits(
            head=config.limit_request_head,
            fields=config.limit_request_fields,
            target=config.limit_request_target,
            body=config.limit_request_body,
        )
        self.request_memory = RequestMemory()
        self.response_memory = ResponseMemory()
        self.root_path = config.root_path.rstrip("/")
        self.raw_root_path = self.root_path.encode()
        self.extensions: dict[str, dict[str, object]] = {"http.response.trailers": {}, "http.response.early_hint": {}}
        self.asgi_version = "3.0"
        self.state = self.lifespan.state
        self.stream_bounds = StreamBounds(loop, config.timeout_write, LINGER, self.exchanges)
        connection = HTTP1Connection
        self.head_deadline = loop.deadlines(config.timeout_request_head, connection.head_deadline_expired)
        self.keep_alive_deadline = loop.deadlines(config.timeout_keep_alive, connection.idle_too_long)
        self.body_pace = BodyPace(loop, config, connection.body_deadline_expired)
        self._calls = {length: loop.deadlines(length, connection.idle_too_long) for length in (LAST_CALL, NO_HURRY)}
        self.last_call = self._calls[LAST_CALL]
        self.cancel_on_disconnect = config.cancel_on_disconnect
        self.limited = config.limit_concurrency is not None
        self.admission = Admission(loop, config, self.connections, self.exchanges)
        self._watches_exchanges = self.admission.watches
        self.default_fields = DefaultFields(config, loop).lines
        self.speaks_websocket = config.ws != "none"
        self.web_sockets: WebSockets | None = None

    # Life

    def run(self) -> None:
        """Turns the loop until the worker has ended."""
        token = enter_worker()
        self._scheduler.begin()
        self.start()
        while self.phase is not Phase.ENDED or self._scheduler.busy:
            try:
                self._scheduler.turn()
            except BaseException:
                self._loop_failed()
        self.foreign.end()
        leave_worker(token)
        self._report(self, Report.ENDED)

    def start(self) -> None:
        """Gets the application and begins its lifespan; the first turns of the loop carry it on."""
        self.foreign.begin()
        try:
            loaded = self._load()
        except (StartupError, SystemExit) as error:
            self.exit_code = log_failure_to_load(error)
            self._end()
            return
        self._application = loaded.application
        self.asgi_version = loaded.asgi_version
        self.lifespan.startup(self._run_lifespan, self._started)

    def _run_lifespan(self, lifespan: Lifespan) -> None:
        scope = lifespan.scope(self.asgi_version)
        coroutine = call(self._application, scope, lifespan.receive, lifespan.send)
        self._lifespan_task = self._scheduler.spawn(coroutine, lifespan.finished)

    def _started(self, worked: bool) -> None:
        if self.lifespan.unsupported:
            self._report(self, Report.UNSUPPORTED)
        if self.phase is not Phase.STARTING:  # cancelled meanwhile
            self._end()
        elif worked:
            self.phase = Phase.READY
            self._report(self, Report.READY)
            if self.draining:
                self.stop()
        else:
            self.exit_code = self.lifespan.exit_code
            if not self.lifespan.exited:
                self._report(self, Report.FAILED)
            self._end()

    def serve(self) -> None:
        """Lets clients in. Posted by the supervisor."""
        if self.phase is not Phase.READY:
            return
        self.phase = Phase.SERVING
        prepare_websockets(self)
        self.reception.open()

    def _arrived(self, sock: socket.socket, client: Address | None, server: Address) -> None:
        self.connect(sock, client, server).stream.read_now()  # it has waited for its first word, mostly

    def connect(self, sock: socket.socket, client: Address | None, server: Address) -> HTTP1Connection:
        """Takes over an accepted, non-blocking socket."""
        connection = HTTP1Connection(self, sock, client, server)
        self.connections.add(connection)
        self.reception.weigh()
        if self.draining:
            connection.drain()
        return connection

    def retire(self) -> None:
        """Leaves its sockets to a successor and drains. Posted by the supervisor."""
        if self.phase is Phase.SERVING:
            self._drain(NO_HURRY, closing=False)

    def stop(self) -> None:
        """Drains and ends; the sockets are shut as soon as nobody stands in their queues. Posted by the supervisor."""
        if self.phase is Phase.SERVING:
            self._drain(LAST_CALL, closing=True)
        elif self.phase is Phase.DRAINING:  # because it has retired
            self._close_queues()
            self._say_goodbye(LAST_CALL)
        elif self.phase is Phase.READY:
            self.phase = Phase.DRAINING
            self.draining = True
            self._look_for_the_end()
        elif self.phase is Phase.STARTING:  # a start that was cut off might leave half a migration behind
            self.draining = True

    def _drain(self, last_call: float, *, closing: bool) -> None:
        self.reception.shut()
        self.phase = Phase.DRAINING
        self.draining = True
        if closing:
            self._close_queues()
        else:
            self._stop_accepting()
        self._say_goodbye(last_call)

    def _say_goodbye(self, last_call: float) -> None:
        self.last_call = self._calls[last_call]
        for connection in list(self.connections):
            connection.drain()

    def _close_queues(self) -> None:
        self.reception.refuse()
        self._closing_accept = True
        self.loop.call_later(LAST_ACCEPT, self._stop_accepting)

    def _stop_accepting(self, *, wait: bool = True) -> None:
        if self._closing_accept and not self.reception.drain() and self.connections and wait:
            self.loop.call_later(LAST_ACCEPT, self._stop_accepting)  # when one has ended there is room for another
            return
        self.reception.stop()
        self._closing_accept = False
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self.phase is Phase.DRAINING and not (self.connections or self.exchanges or self._closing_accept):
            self.phase = Phase.STOPPING
            bound = self.config.timeout_graceful_shutdown or LIFESPAN_BOUND
            self.loop.call_later(bound, lambda: self._lifespan_stuck(bound))
            if self.lifespan.running:
                self._report(self, Report.CLOSING)
                self.lifespan.shutdown(self._shut_down)
            else:
                self._end()

    def _lifespan_stuck(self, bound: float) -> None:
        if self.phase is Phase.STOPPING:
            logger.error("Application shutdown has not ended within %g seconds; it is cancelled.", bound)
            self.exit_code = 3
            self._cancel_lifespan()

    def _cancel_lifespan(self) -> None:
        self.phase = Phase.STOPPING
        if self._lifespan_task is not None:
            self._lifespan_task.cancel()
        self.loop.call_later(CANCEL_GRACE, self.abandon)

    def _shut_down(self, worked: bool) -> None:
        if not self.abandoned:
            self._report(self, Report.CLOSED if worked else Report.UNCLOSED)
            self.exit_code = self.exit_code or (0 if worked else 3)
        self._end()

    def cancel(self) -> None:
        """The time for draining is over: cancels what still runs and closes what is still open. Posted by the
        supervisor."""
        if self.phase is Phase.STARTING:
            self._cancel_lifespan()
        if self.phase is not Phase.DRAINING:
            return
        self._stop_accepting(wait=False)
        self.admission.close()
        running = list(self.exchanges)
        if running:
            logger.error("Cancel %s running task(s), timeout graceful shutdown exceeded", len(running))
        for exchange in running:
            logger.error("Cancelled: %s", exchange.describe())
            exchange.cancel()
        for connection in list(self.connections):
            if connection.exchange is None:
                connection.close()
        self.loop.call_later(CANCEL_GRACE, self._give_up)

    def _give_up(self) -> None:
        """What a cancelled exchange could still say has been said."""
        self._scheduler.abandon()
        self.exchanges.clear()
        for connection in list(self.connections):
            connection.stream.abort()
        self._look_for_the_end()

    def abandon(self) -> None:
        """Cancels whatever is left, and ends without the lifespan's shutdown. Posted by the supervisor."""
        if self.phase is Phase.ENDED or self.abandoned:
            return
        self.abandoned = True
        self.phase = Phase.STOPPING
        self.reception.stop()
        for exchange in list(self.exchanges):
            exchange.cancel()
        self.lifespan.given_up = True
        if self._lifespan_task is not None:
            self._lifespan_task.cancel()
        for connection in list(self.connections):
            connection.stream.abort()
        self.loop.call_later(FORCED_GRACE if self.exchanges or self.lifespan.running else 0, self._end)

    def _end(self) -> None:
        if self.phase is Phase.ENDED:
            return
        self._access_log.flush()
        self.phase = Phase.ENDED
        self._scheduler.end(FORCED_GRACE if self.abandoned else CANCEL_GRACE)

    def _loop_failed(self) -> None:
        self._errors += 1
        self.exit_code = 3
        logger.critical("The loop of worker %s failed; the worker is being replaced.", self.number + 1, exc_info=True)
        if self.phase is Phase.SERVING:
            self._report(self, Report.CRASHED)
            self._drain(LAST_CALL, closing=False)
        elif self._errors > PATIENCE or self.phase is not Phase.DRAINING:
            self.abandon()

    # What a connection asks

    def run_exchange(self, exchange: Exchange, scope: Scope) -> None:
        """Calls the application, and drives it in place until it first has to wait."""
        coroutine = call(self._application, scope, exchange.receive, exchange.send)
        task = self._scheduler.spawn(coroutine, exchange.finished, Context() if self._empty_context else None)
        if task is not None:
            self.exchanges.add(exchange)
            exchange.runs_as(task)
            self.stream_bounds.look_soon()
            if self._watches_exchanges:
                self.admission.begun(exchange)

    def exchange_over(self, exchange: Exchange) -> None:
        self.exchanges.discard(exchange)
        if self._watches_exchanges:
            self.admission.over(exchange)
        if self.phase is Phase.DRAINING:
            self._look_for_the_end()

    def connection_replaced(self, old: HTTP1Connection, new: "WebSocketConnection") -> None:
        self.connections.discard(old)
        self.connections.add(new)

    def connection_over(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.reception.weigh()
        if self.phase is Phase.DRAINING:
            self.loop.call_soon(self._look_for_the_end)  # not yet: its application may be in the middle of a step

    def request_answered(self) -> None:
        if self.phase is Phase.SERVING and self._request_limit.reached():
            self._report(self, Report.RETIRING)

    def log_access(self, client: Address | None, request: Request, status: int) -> None:
        """The line for a request, which is asked for only where there is an access log, or for a WebSocket. The latter
        goes with what the server itself has to say, as uvicorn's."""
        name = f"{client[0]}:{client[1]}" if client is not None else ""
        path = self.root_path + request.path.decode("ascii")
        if request.query:
            path += "?" + request.query.decode("ascii")
        if request.asks_for_websocket and self.speaks_websocket:
            if status == 101:
                logger.info('%s - "WebSocket %s" [accepted]', name, path)
            else:
                logger.info('%s - "WebSocket %s" %d', name, path, status)
        elif self.logs_access and self._access_log.record(name, request.method, path, request.version, status):
            self.loop.call_soon(self._access_log.flush)
