"""One worker: a loop, its connections, its lifespan, and its life from the start to the end. Whether it has a thread
or a process of its own is the supervisor's affair.

Its states, and what may follow each, are in `control`. How a worker ends decides whether requests are lost, and there
are four ways:

`stop`: the server ends. The kernel is told to begin no new connection, at all sockets of the server. What is in the
accept queues is accepted, because those clients believe that they are connected. Then the worker drains: a request
that runs may finish, an idle connection is kept for DRAIN_IDLE, because its client may have the next request on the
way, and every response says `Connection: close`. When nothing is left, the application's lifespan shuts down.

`retire`: the worker ends and the server goes on. It only stops accepting: a successor accepts at the same sockets. On a
thread that has an heir, a connection that waits for a request is handed over (`hand_over`), and no response says
`Connection: close`. Otherwise an idle connection is kept longer than by `stop`, because nothing waits for this worker's
end. In a hurry, for a reload, WebSockets and event streams end at once; their clients connect again.

`cancel`: the time for draining is over. Requests that still run are cancelled and answered 503 where nothing of their
response has left. After CANCEL_GRACE what remains is aborted.

`abort`: the end is forced. Everything is cancelled, and the lifespan's shutdown is left out.

An exception that leaves the loop is a defect of the server and not of a request. The worker drains as one that
retires, while a successor takes its slot.

Owner: the thread that calls `run`. Other threads only post the methods that say so to its loop.
"""

import logging
import socket
import sys
from collections.abc import Callable

from pounce.aio.scheduler import Scheduler
from pounce.app.loading import Loaded, log_failure_to_load
from pounce.app.per_worker import enter_worker, leave_worker
from pounce.asgi.cross_thread import CrossThreadCalls
from pounce.asgi.lifespan import Lifespan
from pounce.asgi.pipeline import http_handler, service_class, websocket_handler
from pounce.config.config import Config
from pounce.connections.connection_log import connection_set
from pounce.connections.context import DRAIN_IDLE, RETIRE_IDLE, Connection, ConnectionContext, HandOver
from pounce.connections.opening import continue_connection, opener
from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver
from pounce.net.address import Address
from pounce.net.listeners import Listener
from pounce.observe.access_log import RequestLog
from pounce.observe.observer import Observer
from pounce.worker.balance import Balancer
from pounce.worker.control import Report, WorkerState
from pounce.worker.hand_over import Legacy, ToHeir
from pounce.worker.intake import Intake
from pounce.worker.readiness import Readiness
from pounce.worker.request_limit import RequestLimit

HANDSHAKE_GRACE = 0.1
"""Seconds in which TCP handshakes that have begun may end, after the kernel begins no new ones."""
CANCEL_GRACE = 1.0
"""Seconds a cancelled application has for its own clean-up."""
ABORT_GRACE = 0.2  # the same where the end is forced
LIFESPAN_TIMEOUT = 30.0
"""Seconds for the lifespan's shutdown where there is no `--timeout-graceful-shutdown`."""
MAX_LOOP_ERRORS = 10  # after which a draining worker aborts its connections

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
        balancer: Balancer | None = None,
        readiness: Readiness | None = None,
    ) -> None:
        """`readiness` is the server's; None: this worker is the whole server."""
        self.number = number
        self.config = config
        self._load = load
        self.loop = loop if loop is not None else Loop()
        self.state = WorkerState.STARTING
        self.exit_code = 0
        """0; 3 when the loop or the lifespan has failed; or what the application has passed to sys.exit."""
        self._report = report
        self._readiness = readiness if readiness is not None else Readiness(ready=True)
        self._loop_errors = 0
        self.aborted = False
        self._accepting_last = False
        self._lifespan_task: Driver | None = None
        self._scheduler = Scheduler(
            self.loop, lambda: [self._lifespan_task, *(exchange.task for exchange in self.exchanges)]
        )
        self.cross_thread = CrossThreadCalls(self.loop, self._scheduler)
        self.lifespan = Lifespan(config.lifespan, self.cross_thread)
        limit = RequestLimit(
            config, lambda: self.state is WorkerState.SERVING, lambda: report(self, Report.WANTS_SUCCESSOR)
        )
        self._request_log = RequestLog(self.loop, config, number + 1, config.root_path.rstrip("/"))
        self.connections: set[Connection] = connection_set()
        self.service = service_class(config)(
            self.loop, config, self._scheduler, self.cross_thread, _observer(self._request_log, limit),
            self.lifespan.state, self.connections, self._check_drained,
        )  # fmt: skip
        self.exchanges = self.service.exchanges
        handle = http_handler(self.service)
        if config.health is not None:
            from pounce.asgi.health import with_health

            handle = with_health(handle, config.health, self._readiness)
        self.context = ConnectionContext(
            self.loop, config, handle, websocket_handler(self.service), self.connections, self.exchanges,
            self._connection_closed,
        )  # fmt: skip
        self._open = opener(self.context)
        self.intake = Intake(
            self.loop, number, listeners, balancer, self.connections, self.context.idle_since,
            self.context.first_byte_timeout, self._accepted,
        )  # fmt: skip
        self.legacy = Legacy(self.loop, lambda given: self._begin(continue_connection(self.context, given)))

    @property
    def draining(self) -> bool:
        """Does it serve what has been accepted, and nothing more?"""
        return self.context.draining

    # Life

    def run(self) -> None:
        """Runs the loop until the worker has ended."""
        token = enter_worker()
        self._scheduler.begin()
        self.start()
        while self.state is not WorkerState.ENDED or self._scheduler.busy:
            try:
                self._scheduler.turn()
            except BaseException:
                self._loop_failed()
        self.cross_thread.end()
        leave_worker(token)
        self._report(self, Report.ENDED)

    def start(self) -> None:
        """Gets the application and begins its lifespan; the first turns of the loop carry it on."""
        self.cross_thread.begin()
        try:
            loaded = self._load()
        except (StartupError, SystemExit) as error:
            self.exit_code = log_failure_to_load(error)
            self._end()
            return
        self.service.begin(loaded)
        self.lifespan.startup(self._run_lifespan, self._started)

    def _run_lifespan(self, lifespan: Lifespan) -> None:
        scope = lifespan.scope(self.service.asgi_version)
        coroutine = self.service.call(scope, lifespan.receive, lifespan.send)
        self._lifespan_task = self._scheduler.spawn(coroutine, lifespan.finished)

    def _started(self, worked: bool) -> None:
        if self.lifespan.unsupported:
            self._report(self, Report.LIFESPAN_UNSUPPORTED)
        if self.state is not WorkerState.STARTING:  # cancelled meanwhile
            self._end()
        elif worked:
            self.state = WorkerState.READY
            self.legacy.accept()
            self._report(self, Report.READY)
            if self.draining:
                self.stop()
        else:
            self.exit_code = self.lifespan.exit_code
            if not self.lifespan.exited:
                self._report(self, Report.START_FAILED)
            self._end()

    def serve(self) -> None:
        """Accepts clients from now on. Posted by the supervisor."""
        if self.state is not WorkerState.READY:
            return
        self.state = WorkerState.SERVING
        _preload_websockets(self.config)
        self.intake.open()
        self.legacy.open()

    def _accepted(self, sock: socket.socket, client: Address | None, server: Address) -> None:
        self.connect(sock, client, server).stream.poll()  # mostly its first bytes are there

    def connect(self, sock: socket.socket, client: Address | None, server: Address) -> Connection:
        """Takes over an accepted, non-blocking socket."""
        return self._begin(self._open(sock, client, server))

    def _begin(self, connection: Connection) -> Connection:
        self.intake.update_load()
        if self.draining:
            connection.drain()
        return connection

    def retire(self, heir: "Worker | None" = None, *, hurry: bool = False) -> None:
        """Drains, and leaves its sockets to a successor. `heir`: a worker thread that goes on with its connections.
        `hurry`: what would last as long as the client likes ends at once. Posted by the supervisor."""
        if self.state is WorkerState.SERVING:
            hand_over: HandOver | None = None
            if heir is not None:
                self.legacy.heir = heir.legacy
                hand_over = ToHeir(heir.legacy, self.context, self.legacy.go_on)
            idle = DRAIN_IDLE if hurry else RETIRE_IDLE
            self._drain(idle, hand_over, closing=False, hurry=hurry)
        elif self.state is WorkerState.READY:  # it serves no client
            self.stop()

    def stop(self) -> None:
        """Drains, and shuts the sockets down when their queues are empty. Posted by the supervisor."""
        if self.state is WorkerState.SERVING:
            self._drain(DRAIN_IDLE, closing=True)
        elif self.state is WorkerState.DRAINING:  # because it has retired
            self._stop_handshakes()
            self.context.drain(DRAIN_IDLE)
        elif self.state is WorkerState.READY:
            self.state = WorkerState.DRAINING
            self.service.draining.set()
            self.context.draining = True
            self._check_drained()
        elif self.state is WorkerState.STARTING:  # it goes on: cut off, it might leave half a migration behind
            self.context.draining = True

    def _drain(self, idle: float, hand_over: HandOver | None = None, *, closing: bool, hurry: bool = False) -> None:
        self.state = WorkerState.DRAINING
        self.service.draining.set()
        self.context.draining, self.context.hand_over = True, hand_over
        self.intake.leave_balancer()  # what it begins here is drained at once
        if closing:
            self._stop_handshakes()
        else:
            self._stop_accepting()
        self.context.drain(idle, hand_over, hurry=hurry)

    def _stop_handshakes(self) -> None:
        self._readiness.clear()  # the supervisor has done so, unless it is dead
        self.intake.stop_handshakes()
        self._accepting_last = True
        self.loop.call_later(HANDSHAKE_GRACE, self._stop_accepting)

    def _stop_accepting(self, *, wait: bool = True) -> None:
        if self._accepting_last and not self.intake.accept_all() and self.connections and wait:
            self.loop.call_later(HANDSHAKE_GRACE, self._stop_accepting)  # a connection that ends makes room
            return
        self.intake.stop()
        self._accepting_last = False
        self._check_drained()

    def _check_drained(self) -> None:
        if self.state is WorkerState.DRAINING and not (self.connections or self.exchanges or self._accepting_last):
            self.legacy.close()
            if self.connections or self.exchanges:  # it was given more meanwhile
                return
            self.state = WorkerState.STOPPING
            bound = self.config.timeout_graceful_shutdown or LIFESPAN_TIMEOUT
            self.loop.call_later(bound, lambda: self._lifespan_timed_out(bound))
            if self.lifespan.running:
                self._report(self, Report.LIFESPAN_ENDING)
                self.lifespan.shutdown(self._lifespan_ended)
            else:
                self._end()

    def _lifespan_timed_out(self, bound: float) -> None:
        if self.state is WorkerState.STOPPING:
            logger.error("Application shutdown has not ended within %g seconds; it is cancelled.", bound)
            self.exit_code = 3
            self._cancel_lifespan()

    def _cancel_lifespan(self) -> None:
        self.state = WorkerState.STOPPING
        if self._lifespan_task is not None:
            self._lifespan_task.cancel()
        self.loop.call_later(CANCEL_GRACE, self.abort)

    def _lifespan_ended(self, worked: bool) -> None:
        if not self.aborted:
            self._report(self, Report.LIFESPAN_ENDED if worked else Report.LIFESPAN_END_FAILED)
            self.exit_code = self.exit_code or (0 if worked else 3)
        self._end()

    def cancel(self) -> None:
        """Ends the time for draining: cancels what runs and closes idle connections. Posted by the supervisor."""
        if self.state is WorkerState.STARTING:
            self._cancel_lifespan()
        if self.state is not WorkerState.DRAINING:
            return
        self._stop_accepting(wait=False)
        self.context.end_drain()
        self.service.admission.close()
        running = list(self.exchanges)
        level = logging.WARNING if self.context.hurried else logging.ERROR
        if running:
            why = "the application was reloaded" if self.context.hurried else "timeout graceful shutdown exceeded"
            logger.log(level, "Cancel %s running task(s), %s", len(running), why)
        for exchange in running:
            exchange.log_and_cancel(level)
        for connection in list(self.connections):
            if connection.handler is None:
                connection.close()
        self.loop.call_later(CANCEL_GRACE, self._abort_remaining)

    def _abort_remaining(self) -> None:
        """Cancelled requests had their time to answer."""
        self._scheduler.abandon()
        self.exchanges.clear()
        for connection in list(self.connections):
            connection.stream.abort()
        self._check_drained()

    def abort(self) -> None:
        """Cancels all that is left, and ends without the lifespan's shutdown. Posted by the supervisor."""
        if self.state is WorkerState.ENDED or self.aborted:
            return
        self.aborted = True
        self.state = WorkerState.STOPPING
        self.intake.stop()
        self.legacy.close()
        for exchange in list(self.exchanges):
            exchange.cancel()
        self.lifespan.aborted = True
        if self._lifespan_task is not None:
            self._lifespan_task.cancel()
        for connection in list(self.connections):
            connection.stream.abort()
        self.loop.call_later(ABORT_GRACE if self.exchanges or self.lifespan.running else 0, self._end)

    def _end(self) -> None:
        if self.state is WorkerState.ENDED:
            return
        self._request_log.flush()
        self.state = WorkerState.ENDED
        self._scheduler.end(ABORT_GRACE if self.aborted else CANCEL_GRACE)

    def _loop_failed(self) -> None:
        self._loop_errors += 1
        self.exit_code = 3
        logger.critical("The loop of worker %s failed; the worker is being replaced.", self.number + 1, exc_info=True)
        if self.state is WorkerState.SERVING:
            self._report(self, Report.LOOP_FAILED)
            self._drain(DRAIN_IDLE, closing=False)
        elif self._loop_errors > MAX_LOOP_ERRORS or self.state is not WorkerState.DRAINING:
            self.abort()

    # What its connections and exchanges report

    def _connection_closed(self) -> None:
        self.intake.update_load()
        if self.state is WorkerState.DRAINING:
            self.loop.call_soon(self._check_drained)  # not yet: its application may be in the middle of a step


def _observer(log: RequestLog, limit: RequestLimit) -> Observer:
    return log.observer([limit.on_response], [limit.on_end]) if limit.enabled else log.observer([], [])


def _preload_websockets(config: Config) -> None:
    """Loads what WebSockets need, so that the first handshake does not wait for it. A plain application may never need
    the 2 to 5 MiB; beside a framework they do not matter."""
    if config.ws != "none" and "asyncio" in sys.modules:
        import pounce.asgi.websocket
        import pounce.connections.websocket  # noqa: F401
