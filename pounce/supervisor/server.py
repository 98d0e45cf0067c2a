"""The server as a public object: it runs a supervisor, maps its end to an exit code, and receives signals.

Owner: the thread that calls `run`. `should_exit`, `force_exit`, `started` and `wait_started` are for any thread.
"""

import contextlib
import contextvars
import dataclasses
import logging
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

from pounce.app.loading import load, log_failure_to_load
from pounce.config.config import Config
from pounce.errors import StartupError, no_descriptors
from pounce.kernel.loop import Loop
from pounce.kernel.task import Interrupted
from pounce.logging import configure
from pounce.net.address import Address
from pounce.net.listeners import Listener
from pounce.supervisor import embedding
from pounce.supervisor.inheritance import Command, exec_in_place
from pounce.supervisor.privileges import Privileges
from pounce.supervisor.restart import Reconfigure
from pounce.supervisor.signals import Signals
from pounce.supervisor.supervisor import Supervisor

logger = logging.getLogger("pounce.error")


class Server:
    """The server as an object: `run` it, on the main thread (then it receives SIGINT and SIGTERM) or on any other.

    `started` is true from when clients are let in; setting `should_exit` to true stops the server in order, from any
    thread; setting `force_exit` as well stops it at once.
    """

    def __init__(
        self, config: Config, notes: Sequence[tuple[int, str]] = (), *, may_reexec: bool = False,
        reconfigure: Reconfigure | None = None,
    ) -> None:  # fmt: skip
        """`notes`: levels and lines to log first, from before the log was configured. `may_reexec`: the process is this
        server's alone, and may execute its command again. `reconfigure` reads the configuration again, for SIGHUP."""
        self.config = config
        self._notes = notes
        self._may_reexec = may_reexec
        self._start_decided = threading.Event()  # started, or ended without having started
        self._should_exit = False
        self._force_exit = False
        self._loop = Loop()
        self._command = Command.of_this_process() if may_reexec else None
        self._supervisor = Supervisor(config, self._loop, self._command, reconfigure, self._start_decided.set)
        self._signals = Signals(self._loop, self._supervisor, may_upgrade=may_reexec)
        self.ended_by: int | None = None
        """The signal that is to end the process, where `run` leaves that to its caller."""

    @property
    def listeners(self) -> list[Listener]:
        """Where the server listens, one per address."""
        return self._supervisor.listeners

    @property
    def addresses(self) -> list[Address]:
        """Where the server is bound: (host, port), or (path, None) for a Unix socket. Known before `started`."""
        return [listener.address for listener in self.listeners]

    @property
    def started(self) -> bool:
        return self._supervisor.started

    @property
    def ready(self) -> bool:
        """Should a load balancer send new clients here? False before `started`, from the beginning of --drain-delay on,
        and while the server stops."""
        return self._supervisor.ready

    @property
    def should_exit(self) -> bool:
        return self._should_exit or self._supervisor.stopping

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value:
            self._post(self._supervisor.stop)

    @property
    def force_exit(self) -> bool:
        return self._force_exit or self._supervisor.aborted

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        if value:
            self._post(self._supervisor.stop)  # --drain-delay is over; then all that is left
            self._post(self._supervisor.abort)

    def wait_started(self, timeout: float | None = None) -> bool:
        """Waits, on another thread than the server's, until clients are let in. False when `timeout` seconds have
        passed, or when the server has ended without getting so far."""
        return self._start_decided.wait(timeout) and self.started

    def _post(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.post(call)

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """As `run`, on a thread of its own, awaited in a running asyncio loop. Cancelling stops the server in order,
        and then goes on. Awaited on the main thread it receives SIGINT and SIGTERM, and raises them at its end."""
        await embedding.serve(self, sockets)

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serves until it is stopped, at `sockets` if there are any, which stay the caller's. Raises SystemExit with
        uvicorn's code when the server cannot start: 3, or 2 for an invalid option. A signal that stopped it is raised
        again when all is done."""
        self._signals.thread = threading.get_ident()
        contextvars.copy_context().run(self._run, sockets)  # the caller's context stays as it is

    def _run(self, sockets: Sequence[socket.socket] | None) -> None:
        supervisor = self._supervisor
        try:
            with self.handling_signals():
                privileges = self._privileges()
                for level, note in self._notes:
                    logger.log(level, note)
                supervisor.prepare(
                    sockets, partial(self._drop_privileges, privileges), self._signals.interrupting_import()
                )
                supervisor.run(should_exit=self.should_exit)
            code = supervisor.exit_code
        except Interrupted:
            first = signal.Signals(self._signals.received[0])
            logger.info("Stopped by %s before the application was imported.", first.name)
            code = 1 if first == signal.SIGINT else 0  # 1: as uvicorn, whose start is interrupted
        except StartupError as error:
            logger.error(error, exc_info=error.__cause__)
            code = error.exit_code
        except OSError as error:
            problem = no_descriptors(error) if not self.started else None
            if problem is None:
                raise
            logger.error(problem)
            code = problem.exit_code
        finally:
            supervisor.close()
            self._loop.close()
            self._start_decided.set()
        if code:
            raise SystemExit(code)
        self._raise_signal()

    def _privileges(self) -> Privileges:
        """Configures the log, but for its files where they are not this user's to open. Raises StartupError."""
        try:
            privileges = Privileges(self.config)
        except StartupError:
            configure(Config(""))
            raise
        if privileges.reduces:
            configure(dataclasses.replace(self.config, threads=None, log_config="default"))
        else:
            self._configure_logging()
        privileges.set_umask()
        return privileges

    def _drop_privileges(self, privileges: Privileges, listeners: Sequence[Listener]) -> None:
        if privileges.reduces:
            privileges.drop(listeners)
            self._configure_logging()

    def load_only(self) -> int:
        """Loads the application as `run` does, and nothing more. Logs what is wrong, and returns the exit code."""
        try:
            self._configure_logging()
            load(self.config)
        except (StartupError, SystemExit) as error:
            return log_failure_to_load(error)
        finally:
            self._loop.close()
        return 0

    def _raise_signal(self) -> None:
        """The first signal that arrived ends the process, as if the server had not handled it: except SIGTERM with
        worker processes, where uvicorn exits with 0."""
        if not self._signals.received:
            return
        number = self._signals.received[0]
        if self._supervisor.uses_processes and number == signal.SIGTERM:
            return
        if threading.current_thread() is not threading.main_thread():
            self.ended_by = number  # for `serve`, on the thread that has received it
        elif self._may_reexec and signal.getsignal(number) is signal.SIG_DFL:
            self.ended_by = number  # for the command line: raised here, it would end the process before its exit steps
        else:
            signal.raise_signal(number)

    def _configure_logging(self) -> None:
        try:
            configure(self.config)
        except StartupError:
            configure(Config(""))  # so that there is a log for the error
            raise

    def handling_signals(self, *, wakes_loop: bool = True) -> contextlib.AbstractContextManager[None]:
        """`wakes_loop`: the supervisor's loop runs on this thread."""
        # A method of the server, because libraries look at the handler's object: sse-starlette reads `should_exit`.
        return self._signals.handling(self.handle_exit, wakes_loop=wakes_loop)

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM, on the main thread."""
        # For --drain-delay it serves on, and libraries that look at `should_exit` are not to end their streams yet.
        if not (number == signal.SIGTERM and self._supervisor.drain_delay and self._supervisor.ready):
            self._should_exit = True
        self._signals.handle_exit(number, frame)

    @property
    def executes_again(self) -> bool:
        """Is `execute_again` to be called when all else of the process has ended?"""
        # A signal that arrives after the loop's last turn has not been handled.
        return self._supervisor.executes_again and not self._signals.received

    def execute_again(self) -> int:
        """Executes the server's command again in this process, with its listening sockets. Where that is not possible,
        logs why and returns an exit code."""
        assert self._command is not None
        try:
            exec_in_place(self._command, self._supervisor.all_listeners)
        except StartupError as error:
            logger.error("%s.", error)
            return error.exit_code

    @property
    def abandoned_threads(self) -> bool:
        """Has a worker thread been abandoned? It runs until the process exits."""
        return self._supervisor.abandoned_threads

    @property
    def remaining_grace(self) -> float | None:
        """Seconds that remain of the graceful timeout; None: it has no limit."""
        return self._supervisor.remaining_grace
