"""The supervisor: binds the sockets, imports the application, runs the pool, and stops it.

It is a loop like a worker's, on the thread that called `Server.run`. Everything that happens to it is a call on that
loop, so nothing here has a lock. A single worker shares that thread and loop (see `local`).

    PREPARING  sockets are bound, and the application is imported where threads share it
    STARTING   the first worker starts its lifespan, then the others
    CHANGING   threads have turned out not to run the application: they end, and processes follow
    SERVING    every worker was ready, and clients are let in
    STOPPING   workers drain; what does not end is cancelled, aborted, killed: see `workers`
    ENDED      the last worker has ended

So every mistake in the application is logged once, and before a client is accepted.
"""

import contextlib
import enum
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from pounce.app.sharing import NeedsProcesses
from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.logging import CYAN, bold
from pounce.net.listeners import Listener, from_sockets, open_listeners
from pounce.supervisor import signals
from pounce.supervisor.generation import Generation, Surroundings
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.local import thread_is_free
from pounce.supervisor.plan import Plan, has_gil
from pounce.supervisor.pool import Pool
from pounce.version import __version__

logger = logging.getLogger("pounce.error")


class State(enum.Enum):
    PREPARING = "preparing"
    STARTING = "starting"
    CHANGING = "changing"
    SERVING = "serving"
    STOPPING = "stopping"
    ENDED = "ended"


TRANSITIONS = {
    State.PREPARING: {State.STARTING},
    State.STARTING: {State.CHANGING, State.SERVING, State.STOPPING},
    State.CHANGING: {State.STARTING, State.STOPPING},
    State.SERVING: {State.STOPPING},
    State.STOPPING: {State.ENDED},
    State.ENDED: set(),
}
"""What may follow on each state."""


class Supervisor:
    def __init__(
        self, config: Config, loop: Loop, reexec: Callable[[], object] | None, on_started: Callable[[], object]
    ) -> None:
        """`reexec`: see `Plan`. `on_started` is called when clients are let in."""
        self._config = config
        self._loop = loop
        self._on_started = on_started
        self._plan = Plan(config, reexec)
        self._pool: Pool | None = None
        self._surroundings: Surroundings
        self._run_local: Callable[[], None] | None = None
        """Runs the worker that shares this thread."""
        self.state = State.PREPARING
        self.listeners: list[Listener] = []
        """One per address."""
        self.exit_code = 0
        self.started = False
        """Have clients been let in? True until the end."""
        self.aborted = False
        self._stopped_at = 0.0
        self._pool_ended = False
        self._processes_reason = ""
        """Why threads cannot run the application, when one has shown that."""

    def prepare(
        self, sockets: Sequence[socket.socket] | None, importing: contextlib.AbstractContextManager[None]
    ) -> None:
        """Binds the addresses, or adopts `sockets`; `importing` is entered while the application is imported. Raises
        StartupError."""
        plan = self._plan
        self.listeners = from_sockets(sockets) if sockets else open_listeners(self._config.binds(), plan.count)
        with importing:
            generation = plan.first_generation()
        self._make_pool(generation)

    def _make_pool(self, generation: Generation) -> None:
        plan, config = self._plan, self._config
        self._surroundings = Surroundings(self._loop, self.listeners, plan.balancer)
        self._pool_ended = False
        self._pool = Pool(
            self, self._loop, generation, plan.count, plan.balancer, config.timeout_worker_stuck,
            single=plan.in_supervisor_thread and thread_is_free(), grace=config.timeout_graceful_shutdown,
        )  # fmt: skip

    def run(self, *, should_exit: bool) -> None:
        """Returns when the server has ended. `should_exit`: it stops at once."""
        python = f"{sys.implementation.name.replace('cpython', 'CPython')} {sys.version.split()[0]}"
        free = "" if has_gil() else " free-threaded"
        logger.info("Pounce %s on %s%s, %s", __version__, python, free, self._plan.describe())
        _log_process("Started")
        if self._config.lifespan != "off":
            logger.info("Waiting for application startup.")
        self._run_pool(should_exit)
        if self.state is State.CHANGING:
            generation = self._plan.become_processes(self._processes_reason)
            logger.info("Starting again with %s", self._plan.describe())
            self._make_pool(generation)
            self._run_pool(False)
        self.state = State.ENDED
        if self.started:
            _log_process("Finished")

    def _run_pool(self, should_exit: bool) -> None:
        assert self._pool is not None
        self.state = State.STARTING
        if should_exit:
            self.stop()
        else:
            self._pool.start()
        while not self._pool_ended:
            if self._run_local is not None:
                self._run_local()
                self._run_local = None
            else:
                self._loop.turn()

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        if self._plan.balancer is not None:
            self._plan.balancer.close()

    # What the pool asks and reports

    def make_worker(self, generation: Generation, number: int, on_report: OnReport) -> WorkerHandle:
        free = self._plan.in_supervisor_thread and self._run_local is None and thread_is_free()
        return generation.make_worker(
            number, self._surroundings, on_report,
            run_here=self._set_local if free else None,
            on_threads_fail=self._become_processes if self.state is State.STARTING else None,
        )  # fmt: skip

    def _set_local(self, run: Callable[[], None]) -> None:
        self._run_local = run

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
        assert self._pool is not None
        if self.state is State.STARTING:
            self.state, self._processes_reason = State.CHANGING, why
            self._pool.stop(self._config.timeout_graceful_shutdown)

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
        self._pool.serve()
        self.state = State.SERVING
        self.started = True
        self._on_started()
        for listener in self.listeners:
            text = "Pounce running on %s (Press CTRL+C to quit)"
            logger.info(text, listener.announcement, extra={"color_message": text.replace("%s", bold("%s"))})

    def pool_failed(self, code: int) -> None:
        self.exit_code = self.exit_code or code
        self.stop()

    def request_limit_reached(self) -> None:
        self.stop()  # as uvicorn: the only worker takes the server with it

    def may_serve(self, generation: Generation) -> str:
        try:
            if generation.application is not None:
                generation.application.inspect(final=True)
        except (NeedsProcesses, StartupError) as error:
            return str(error)
        return ""

    def roll_ended(self, generation: Generation, failure: str) -> None: ...

    def generation_ended(self, generation: Generation) -> None: ...

    def pool_ended(self) -> None:
        self._pool_ended = True

    # What signals, and the embedding program, ask

    def control(self, number: signal.Signals) -> None:
        if self.state is State.SERVING and self._pool is not None:
            signals.control(number, self._pool, self._plan)
        else:
            logger.info("%s is ignored: the server is not serving.", number.name)

    def on_signal(self, handled: Callable[[], bool]) -> None:
        if self._pool is not None:
            self._pool.watchdog.on_signal(handled, self._config.timeout_graceful_shutdown)

    def stop(self) -> None:
        """Lets every worker drain and end. Does nothing before there is a pool, or when the server stops already."""
        if self._pool is None or self.stopping:
            return
        if self.state is State.SERVING:
            logger.info("Shutting down")
        self.state = State.STOPPING
        self._stopped_at = self._loop.clock()
        for listener in self.listeners:
            listener.stop_handshakes()  # as each worker does, but one that is blocked does so late
            listener.unlink()  # no client finds a Unix socket any more; those that have found it are served
        self._pool.stop(self._config.timeout_graceful_shutdown)

    def abort(self) -> None:
        """Ends at once what has not ended yet."""
        self.stop()
        self.aborted = True
        if self._pool is not None:
            self._pool.abort()

    @property
    def stopping(self) -> bool:
        return self.state in (State.STOPPING, State.ENDED)

    @property
    def remaining_grace(self) -> float | None:
        """Seconds that remain of the graceful timeout; None: it has no limit."""
        timeout = self._config.timeout_graceful_shutdown
        return None if timeout is None else timeout - max(0.0, self._loop.clock() - self._stopped_at)

    @property
    def abandoned_threads(self) -> bool:
        """Has a worker thread been abandoned? It runs until the process exits."""
        return self._pool is not None and self._pool.workers.abandoned_threads

    @property
    def uses_processes(self) -> bool:
        return self._plan.processes


def _log_process(word: str) -> None:
    text = f"{word} server process [%s]"
    logger.info(text, os.getpid(), extra={"color_message": text.replace("%s", bold("%s", CYAN))})
