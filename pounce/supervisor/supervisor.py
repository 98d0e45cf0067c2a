"""The supervisor: binds the sockets, imports the application, runs the pool, and stops it.

It is a loop like a worker's, on the thread that called `Server.run`. Everything that happens to it is a call on that
loop, so nothing here has a lock. A single worker shares that thread and loop (see `local`).

    PREPARING  sockets are bound, and the application is imported where threads share it
    STARTING   the first worker starts its lifespan, then the others
    CHANGING   the workers cannot run the application: they end, and others follow (processes, or a placeholder)
    SERVING    every worker was ready, and clients are let in
    LEAVING    SIGTERM has come: for the seconds of --drain-delay it serves as before, but is not `ready`
    STOPPING   workers drain; what does not end is cancelled, aborted, killed: see `workers`
    ENDED      the last worker has ended

So every mistake in the application is logged once, and before a client is accepted.
"""

import contextlib
import enum
import gc
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pounce.app.sharing import NeedsProcesses
from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.net.listeners import Listener, close_to_clients, from_sockets
from pounce.supervisor import announcements, signals
from pounce.supervisor.admin import Admin
from pounce.supervisor.generation import Generation, Surroundings
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.health import Health
from pounce.supervisor.inheritance import Command
from pounce.supervisor.local import thread_is_free
from pounce.supervisor.pid_file import PidFile
from pounce.supervisor.plan import Plan
from pounce.supervisor.pool import Pool
from pounce.supervisor.renewal import Renewal
from pounce.supervisor.restart import Reconfigure, Restart
from pounce.supervisor.service_reports import ServiceReports
from pounce.supervisor.trust import warn_of_trust
from pounce.supervisor.upgrade import Succession, take_over
from pounce.worker.readiness import Readiness

if TYPE_CHECKING:
    from pounce.supervisor.reload import Reload

COLLECT_DELAY = 0.2
"""Seconds from the end of a generation to the collection of its objects."""

logger = logging.getLogger("pounce.error")


class State(enum.Enum):
    PREPARING = "preparing"
    STARTING = "starting"
    CHANGING = "changing"
    SERVING = "serving"
    LEAVING = "leaving"
    STOPPING = "stopping"
    ENDED = "ended"


TRANSITIONS = {
    State.PREPARING: {State.STARTING},
    State.STARTING: {State.CHANGING, State.SERVING, State.STOPPING},
    State.CHANGING: {State.STARTING, State.STOPPING},
    State.SERVING: {State.LEAVING, State.STOPPING},
    State.LEAVING: {State.STOPPING},
    State.STOPPING: {State.ENDED},
    State.ENDED: set(),
}
"""What may follow on each state."""


class Supervisor:
    def __init__(
        self, config: Config, loop: Loop, command: Command | None, reconfigure: Reconfigure | None,
        on_started: Callable[[], object],
    ) -> None:  # fmt: skip
        """`command`: the server's, which may be executed again; None where the process is not the server's alone.
        `reconfigure`: see `Restart`. `on_started` is called when clients are let in."""
        self._config = config
        self._loop = loop
        self._on_started = on_started
        self._succession = Succession(loop, command, self.stop)
        self._plan = Plan(config, self._succession.execute_again if command is not None else None)

        def roll(generation: Generation) -> None:
            assert self._pool is not None
            self._pool.roll(generation)

        self._renewal = Renewal(loop, self._plan, roll)
        self._pid_file = PidFile(config.pid_file)
        self._restart = Restart(config, self._plan, self._renewal, reconfigure, self._configured)
        self._reload: Reload | None = None
        if config.should_reload:
            from pounce.supervisor import reload  # most servers never need it

            self._reload = reload.Reload(
                config, loop, self._plan, self._renewal, command, self.execute_again, self._start_again
            )
        self._pool: Pool | None = None
        self.health = Health(loop, self)
        self._admin = Admin(loop, self.health)
        self._reports = ServiceReports(loop, self.health, owns_process=command is not None)
        self._surroundings: Surroundings
        self._local: list[Callable[[], None]] = []
        """What runs the worker that shares this thread."""
        self.state = State.PREPARING
        self.listeners: list[Listener] = []
        """One per address."""
        self.all_listeners: list[Listener] = []
        """The same, and that of the admin listener."""
        self.readiness = Readiness()
        self.exit_code = 0
        self.started = False
        """Have clients been let in? True until the end."""
        self.ready = False
        """Should a load balancer send new clients here? They are accepted until the server stops."""
        self.aborted = False
        self.executes_again = False
        """Is the command to be executed again in this process, with the sockets, when the server has ended?"""
        self.uses_processes = self._plan.processes
        self.abandoned_threads = False
        """Has a worker thread been abandoned? It runs until the process exits. Known at the end."""
        self.drain_delay = config.drain_delay
        self._grace = config.timeout_graceful_shutdown
        self._stopped_at = 0.0
        self._pool_ended = False
        self._change: Callable[[], Generation]
        """Makes the generation that follows on CHANGING."""

    def prepare(
        self, sockets: Sequence[socket.socket] | None, on_bound: Callable[[Sequence[Listener]], object],
        importing: contextlib.AbstractContextManager[None],
    ) -> None:  # fmt: skip
        """Binds the addresses, or adopts `sockets`, calls `on_bound`, and enters `importing` while the application is
        imported. Raises StartupError."""
        plan = self._plan
        if self._config.reload and self._reload is None:
            raise StartupError("reload needs the application as an import string, such as 'main:app'")
        self.all_listeners = from_sockets(sockets) if sockets else []
        self.all_listeners += self._succession.open(self._config, plan.count, only_admin=bool(sockets))
        self.listeners = [listener for listener in self.all_listeners if not listener.private]
        self._admin.open(self._config, self.all_listeners)
        warn_of_trust(self._config, self.listeners)
        on_bound(self.all_listeners)
        self._pid_file.check(has_predecessor=self._succession.has_predecessor)
        with importing:
            generation = plan.first_generation() if self._reload is None else self._reload.first_generation()
        self._make_pool(generation)

    def _make_pool(self, generation: Generation) -> None:
        plan, config = self._plan, self._config
        self._surroundings = Surroundings(
            self._loop, self.listeners, plan.balancer, self.readiness, self._admin.sockets
        )
        self._pool_ended, self.uses_processes = False, plan.processes
        self._pool = self.health.pool = Pool(
            self, self._loop, generation, plan.count, plan.balancer, config.timeout_worker_stuck,
            single=plan.in_supervisor_thread and thread_is_free(), grace=config.timeout_graceful_shutdown,
        )  # fmt: skip

    def run(self, *, should_exit: bool) -> None:
        """Returns when the server has ended. `should_exit`: it stops at once."""
        announcements.log_start(self._config, self._plan)
        self._admin.start()
        if self._config.lifespan != "off":
            logger.info("Waiting for application startup.")
        self._run_pool(should_exit)
        while self.state is State.CHANGING:
            generation = self._change()
            logger.info("Starting again with %s", self._plan.describe())
            self._make_pool(generation)
            self._run_pool(False)
        self.state = State.ENDED
        if self.started:
            announcements.log_process("Finished")

    def _run_pool(self, should_exit: bool) -> None:
        assert self._pool is not None
        self.state = State.STARTING
        if should_exit:
            self.stop()
        else:
            self._pool.start()
        while not self._pool_ended or self._succession.under_way:
            if self._local:
                self._local[0]()
                self._local.clear()
            else:
                self._admin.turn()
        self.abandoned_threads |= self._pool.workers.abandoned_threads

    def close(self) -> None:
        self._admin.close()
        self._reports.close()
        if not self.executes_again:
            self._pid_file.remove()
            for listener in self.all_listeners:
                listener.close()
        if self._plan.balancer is not None:
            self._plan.balancer.close()

    # What the pool asks and reports

    def make_worker(self, generation: Generation, number: int, on_report: OnReport) -> WorkerHandle:
        free = self._plan.in_supervisor_thread and not self._local and thread_is_free()
        return generation.make_worker(
            number, self._surroundings, on_report,
            run_here=self._local.append if free else None,
            on_threads_fail=self._become_processes if self.state is State.STARTING else None,
        )  # fmt: skip

    def first_ready(self) -> None:
        assert self._pool is not None
        application = self._pool.generation.application
        try:
            if application is not None:
                application.inspect(final=True)
        except NeedsProcesses as error:
            self._become_processes(str(error))
        except StartupError as error:
            logger.error(error, exc_info=error.__cause__)
            self.pool_failed(error.exit_code)

    def _become_processes(self, why: str) -> None:
        self._start_again(lambda: self._plan.become_processes(why), self._grace)

    def _start_again(self, change: Callable[[], Generation], grace: float | None) -> None:
        """Ends the start that is under way, within about `grace` seconds, and starts the generation that `change`
        makes. Does nothing at any other time."""
        if self.state is State.STARTING:
            assert self._pool is not None
            self.state, self._change = State.CHANGING, change
            self._pool.stop(grace)

    def all_ready(self) -> None:
        assert self._pool is not None
        if self._config.lifespan != "off":
            logger.info("Application startup complete.")
        try:
            for listener in self.listeners:
                listener.listen(self._config.backlog)
        except StartupError as error:
            logger.error(error)
            self.pool_failed(error.exit_code)
            return
        take_over(self.all_listeners)
        self.readiness.set()  # before the first request for --health
        self._pool.serve()
        self.state = State.SERVING
        self.started = self.ready = True
        self._pid_file.write()
        self._on_started()
        announcements.log_addresses(self.listeners)
        self._admin.start()
        has_predecessor = self._succession.has_predecessor
        self._succession.ready()
        self._reports.start(has_predecessor=has_predecessor)
        if self._reload is not None:
            self._reload.serving(self._pool.generation.number)

    def pool_failed(self, code: int) -> None:
        if self.state is State.CHANGING:  # its workers end, and others follow
            return
        if self._reload is not None and self.state is State.STARTING and not self._reload.failed:
            self._start_again(self._reload.placeholder, self._grace)
            return
        self.exit_code = self.exit_code or code
        self.stop()

    def request_limit_reached(self) -> None:
        self.stop()  # as uvicorn: the only worker takes the server with it

    def roll_ended(self, generation: Generation, failure: str) -> None:
        self._renewal.roll_ended(generation, failure)

    def generation_ended(self, generation: Generation) -> None:
        if generation.loaded is not None:
            if self._reload is not None:
                self._reload.ended(generation)
            generation.loaded.release()
            # Modules refer to each other, so only the collector frees them. Not now: a worker may be taking requests.
            self._loop.call_later(COLLECT_DELAY, gc.collect)

    def pool_ended(self) -> None:
        self._pool_ended = True

    # What signals, and the embedding program, ask

    def control(self, number: signal.Signals) -> None:
        if self.state is not State.SERVING or self._pool is None:
            logger.info("%s is ignored: the server is not serving.", number.name)
        elif number is signal.SIGHUP:
            self._restart.begin() if self._reload is None else self._reload.on_signal()
        elif number is signal.SIGUSR2:
            self._succession.upgrade(self.all_listeners)
        else:
            signals.control(number, self._pool, self._plan)

    def _configured(self, config: Config) -> None:
        """A generation with this configuration serves."""
        assert self._pool is not None
        warn_of_trust(config, self.listeners, self._config)
        self._config, self.drain_delay = config, config.drain_delay
        self._grace = self._pool.workers.grace = config.timeout_graceful_shutdown

    def on_signal(self, handled: Callable[[], bool]) -> None:
        if self._pool is not None:
            self._pool.watchdog.on_signal(handled, self._grace)

    def terminate(self) -> None:
        """Stops after --drain-delay: while load balancers learn that the server is not ready, it serves."""
        delay = self.drain_delay
        if self.state is not State.SERVING or not delay:
            self.stop()
            return
        self.state, self.ready = State.LEAVING, False
        self.readiness.clear()
        logger.info("Shutting down in %g s. Until then clients are accepted. (CTRL+C to shut down now)", delay)
        self._reports.stopping(self._grace, delay)
        self._succession.stop(self._grace)
        self._loop.call_later(delay, self.stop)

    def stop(self) -> None:
        """Lets every worker drain and end. Does nothing before there is a pool, or when the server stops already."""
        if self._pool is None:
            return
        if self.stopping:
            if self.executes_again:  # the operator stops the server meanwhile
                self.executes_again = False
                take_over(self.all_listeners)
                close_to_clients(self.listeners)
            return
        if self.state in (State.SERVING, State.LEAVING):
            logger.info("Shutting down")
        if self._succession.handed_on:
            self._reports.close()
        elif not (self.executes_again or self.state is State.LEAVING):
            self._reports.stopping(self._grace)
        self.state, self.ready = State.STOPPING, False
        self._stopped_at = self._loop.clock()
        if self._reload is not None:
            self._reload.close()
        self._succession.stop(self._grace)
        close_to_clients(self.listeners)
        replaced = all(listener.inherited for listener in self.listeners) and (
            self._succession.handed_on or self.executes_again
        )
        if not replaced:
            self.readiness.clear()
        self._admin.stop()
        self._pool.stop(self._grace, replaced=replaced, hurry=self.executes_again)

    def execute_again(self, grace: float) -> None:
        """Ends the workers, whose requests have `grace` seconds, and then has the command executed again in this
        process. It keeps its number and the sockets, and clients wait in their queues. A stop meanwhile is a stop."""
        if self.state is State.SERVING:
            self.executes_again, self._grace = True, grace
            for listener in self.all_listeners:
                listener.hand_on()
            self.stop()

    def abort(self) -> None:
        """Ends at once what has not ended yet. While --drain-delay passes, ends only that."""
        leaving = self.state is State.LEAVING
        self.stop()
        if leaving:
            return
        self.aborted = True
        self._succession.abort()
        if self._pool is not None:
            self._pool.abort()

    @property
    def stopping(self) -> bool:
        return self.state in (State.STOPPING, State.ENDED)

    @property
    def remaining_grace(self) -> float | None:
        """Seconds that remain of the graceful timeout; None: it has no limit."""
        return None if self._grace is None else self._grace - max(0.0, self._loop.clock() - self._stopped_at)
