"""The server as a whole: starts the pool, hears signals, and ends in order.

The supervisor is a loop like a worker's, on the thread that called `run`: everything that happens to it is a call
on that loop, so nothing here needs a lock. The only worker shares that thread and loop (see `local`).

Order of start: sockets are bound, the application is imported, the first worker starts its lifespan, the others
follow, and when all are ready clients are let in. So every mistake shows once, and before anyone is served.

Order of the end: each worker drains; after the graceful time-out running exchanges are cancelled; a worker that
still does not end is given up, or killed if it is a process. The second signal begins with that last step.
"""

import contextlib
import contextvars
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from pounce.app.sharing import NeedsProcesses
from pounce.config.config import Config
from pounce.errors import StartupError, no_descriptors
from pounce.kernel.loop import Loop
from pounce.kernel.task import Interrupted
from pounce.logging import CYAN, bold, configure
from pounce.net.address import Address
from pounce.net.listeners import Listener, adopt, open_listeners
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.interpreter_exit import has_terminal, reset_signals_in_children
from pounce.supervisor.local import LocalWorker, in_application, possible
from pounce.supervisor.plan import Plan, has_gil, start_anew
from pounce.supervisor.pool import Pool
from pounce.version import __version__

logger = logging.getLogger("pounce.error")


class Server:
    """The server as an object: `run` it, on the main thread (then it hears SIGINT and SIGTERM) or on any other.

    `started` is true from when clients are let in; setting `should_exit` to true ends the server in order, from
    any thread; setting `force_exit` as well ends it at once.
    """

    def __init__(self, config: Config, notes: Sequence[tuple[int, str]] = (), *, may_start_anew: bool = False) -> None:
        self.config = config
        self.started = False
        self._may_start_anew = may_start_anew  # the process is nothing but this server
        self._settled = threading.Event()  # started, or ended without having started
        self._notes = notes  # levels and lines, from before there was a log
        self._should_exit = False
        self._force_exit = False
        self._loop = Loop()
        self.listeners: list[Listener] = []
        """Where it listens, one per address."""
        self._plan: Plan | None = None
        self._pool: Pool | None = None
        self._local: LocalWorker | None = None
        """The worker on this thread."""
        self._signals: list[int] = []
        self._sockets: Sequence[socket.socket] | None = None
        self._thread = 0
        self._had_terminal = False
        self._importing = False
        self._unheard = False  # what a signal has asked of the loop has not been done yet
        self._stopping = False
        self._stopped_at = 0.0
        self._over = False
        self._anew = ""
        """Why threads cannot run the application, when that has shown on the first of them."""
        self._exit_code = 0
        self.ended_by: int | None = None
        """The signal that is still to end the process, where `run` leaves that to its caller."""

    @property
    def addresses(self) -> list[Address]:
        """Where the server is bound: (host, port), or (path, None) for a Unix socket. Known before `started`."""
        return [listener.address for listener in self.listeners]

    @property
    def should_exit(self) -> bool:
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value:
            self._post(self._stop)

    @property
    def force_exit(self) -> bool:
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        if value:
            self._post(self._force)

    def wait_started(self, timeout: float | None = None) -> bool:
        """Waits, on another thread than the server's, until clients are let in. False when `timeout` seconds have
        passed, or when the server has ended without getting so far."""
        return self._settled.wait(timeout) and self.started

    def _post(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.post(call)

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """As `run`, on a thread of its own, awaited in a running asyncio loop. Cancelling ends the server in order, and
        then goes on. Awaited on the main thread it hears SIGINT and SIGTERM, and raises them again at its end."""
        from pounce.supervisor.embedding import serve

        await serve(self, sockets)

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serves until told to stop, at `sockets` if there are any, which stay the caller's. Raises SystemExit with
        uvicorn's code when the server cannot start: 3, or 2 for an option that cannot be. A signal that ended it is
        raised again when all is done."""
        self._sockets = sockets
        self._thread = threading.get_ident()
        contextvars.copy_context().run(self._run)  # what the application sets is no affair of the caller's

    def _run(self) -> None:
        try:
            with self.hearing_signals():
                self._configure_logging()
                for level, note in self._notes:
                    logger.log(level, note)
                self._prepare()
                self._serve()
        except Interrupted:
            first = signal.Signals(self._signals[0])
            logger.info("Stopped by %s before the application was imported.", first.name)
            if first == signal.SIGINT:
                self._exit_code = 1  # as uvicorn, where the start is what was interrupted
        except StartupError as error:
            logger.error(error, exc_info=error.__cause__)
            self._exit_code = error.exit_code
        except OSError as error:
            problem = no_descriptors(error) if not self.started else None
            if problem is None:
                raise
            logger.error(problem)
            self._exit_code = problem.exit_code
        finally:
            for listener in self.listeners:
                listener.close()
            if self._plan is not None and self._plan.board is not None:
                self._plan.board.close()
            self._loop.close()
            self._settled.set()
        if self._exit_code:
            raise SystemExit(self._exit_code)
        if self._signals and not (
            self._plan is not None and self._plan.processes and self._signals[0] == signal.SIGTERM
        ):
            number = self._signals[0]
            if threading.current_thread() is not threading.main_thread():
                self.ended_by = number  # for `serve`, on the thread that has heard it
            elif self._may_start_anew and signal.getsignal(number) is signal.SIG_DFL:
                self.ended_by = number  # the process is ours, and would be gone before it has ended in order
            else:
                signal.raise_signal(number)

    def _configure_logging(self) -> None:
        try:
            configure(self.config)
        except StartupError:
            configure(Config(""))  # so that there is a log to say it in
            raise

    @contextlib.contextmanager
    def hearing_signals(self, *, wakes: bool = True) -> Iterator[None]:
        """`wakes`: the loop that a signal is to wake is on this thread."""
        if threading.current_thread() is not threading.main_thread():
            yield  # somebody else's program: its signals are its own
            return
        reset_signals_in_children()
        # Libraries that want to know whether the server is ending look at what this method belongs to (sse-starlette).
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        self._had_terminal = has_terminal()
        orders = [signal.SIGTTIN, signal.SIGTTOU]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` does it
            orders.append(signal.SIGHUP)
        before |= {number: signal.signal(number, self._ordered) for number in orders}
        wakeup = signal.set_wakeup_fd(self._loop.wakeup_fd, warn_on_full_buffer=False) if wakes else None
        try:
            yield
        finally:
            if wakeup is not None:
                signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _prepare(self) -> None:
        """Binds the sockets and, for threads, imports the application."""
        plan = self._plan = Plan(self.config, self._begin_anew)
        self.listeners = adopt(self._sockets) if self._sockets else open_listeners(self.config.binds(), plan.count)
        try:
            self._importing = True
            if self._signals:
                raise Interrupted
            plan.load(start_anew if self._may_start_anew else None)
        finally:
            self._importing = False
        if self._signals:  # which the application has not let through, or which came last
            raise Interrupted
        self._pool = self._make_pool()

    def _make_pool(self) -> Pool:
        plan, patience = self._plan, self.config.timeout_worker_stuck
        assert plan is not None
        return Pool(
            self, self._loop, plan.count, plan.board, patience,
            alone=plan.alone and possible(), grace=self.config.timeout_graceful_shutdown,
        )  # fmt: skip

    def _serve(self) -> None:
        assert self._plan is not None
        assert self._pool is not None
        version = sys.version.split()[0]
        python = f"{sys.implementation.name.replace('cpython', 'CPython')} {version}"
        free = "" if has_gil() else " free-threaded"
        logger.info("Pounce %s on %s%s, %s", __version__, python, free, self._plan.describe())
        _say_of_process("Started")
        if self.config.lifespan != "off":
            logger.info("Waiting for application startup.")
        if self._should_exit:  # before there was anything to stop
            self._stop()
        else:
            self._pool.start()
        self._turn()
        if self._anew and not self._stopping:  # the worker that has shown it has ended
            self._plan.become_processes(self._anew, start_anew if self._may_start_anew else None)
            logger.info("Starting again with %s", self._plan.describe())
            self._pool = self._make_pool()
            self._over = False
            self._pool.start()
            self._turn()
        if self.started:
            _say_of_process("Finished")

    def _turn(self) -> None:
        while not self._over:
            if self._local is not None:
                self._local.run()
                self._local = None
            else:
                self._loop.turn()

    # What the pool tells

    def hire(self, number: int, on_report: OnReport) -> WorkerHandle:
        assert self._plan is not None
        here = self._local is None and possible()
        worker = self._plan.make(number, self.listeners, self._loop, on_report, here=here)
        if isinstance(worker, LocalWorker):
            self._local = worker
        return worker

    def first_ready(self) -> None:
        assert self._plan is not None
        assert self._pool is not None
        try:
            self._plan.look()
        except NeedsProcesses as error:
            self._begin_anew(str(error))
        except StartupError as error:
            logger.error(error, exc_info=error.__cause__)
            self.failed(error.exit_code)

    def _begin_anew(self, why: str) -> None:
        """Ends the workers there are; others, in processes, follow."""
        assert self._pool is not None
        self._anew = self._anew or why
        self._pool.stop(self.config.timeout_graceful_shutdown)

    def all_ready(self) -> None:
        """Lets clients in."""
        assert self._pool is not None
        if self.config.lifespan != "off":
            logger.info("Application startup complete.")
        try:
            for listener in self.listeners:
                listener.listen(self.config.backlog)
        except StartupError as error:
            logger.error(error)
            self.failed(error.exit_code)
            return
        self._pool.serve()
        self.started = True
        self._settled.set()
        for listener in self.listeners:
            text = "Pounce running on %s (Press CTRL+C to quit)"
            logger.info(text, listener.announcement, extra={"color_message": text.replace("%s", bold("%s"))})

    def failed(self, code: int) -> None:
        self._exit_code = self._exit_code or code
        self._stop()

    def retired(self) -> None:
        self._stop()  # as uvicorn: the only worker takes the server with it

    def gone(self) -> None:
        self._over = True

    # What signals ask while it serves

    def _ordered(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGHUP, SIGTTIN and SIGTTOU."""
        if number == signal.SIGHUP and self._had_terminal and not has_terminal():
            self.handle_exit(number, frame)
        else:
            self._post(lambda: self._obey(signal.Signals(number)))

    def _obey(self, number: signal.Signals) -> None:
        assert self._plan is not None
        if self._pool is None or not self.started or self._stopping:
            logger.info("%s is ignored: the server is not serving.", number.name)
        elif number is signal.SIGHUP:
            if why := self._plan.not_renewable:
                logger.warning("SIGHUP is ignored: %s.", why)
            else:
                logger.info("SIGHUP: replacing the workers, which load the application anew.")
                self._pool.renew()
        elif number is signal.SIGTTIN:
            if why := self._plan.grow(len(self._pool.slots)):
                logger.warning("SIGTTIN is ignored: %s.", why)
            else:
                self._pool.more()
                logger.info("SIGTTIN: one worker more, %d now.", self._pool.count)
        elif self._pool.count == 1:
            logger.warning("SIGTTOU is ignored: there is only one worker.")
        else:
            self._pool.fewer()
            logger.info("SIGTTOU: one worker less, %d now.", self._pool.count)

    # The end

    @property
    def left_behind(self) -> bool:
        """Was a worker thread left running that did not end?"""
        return self._pool is not None and self._pool.left_behind

    def patience_left(self) -> float | None:
        """Seconds that are left of the graceful time-out; None for ever."""
        patience = self.config.timeout_graceful_shutdown
        return None if patience is None else patience - max(0.0, self._loop.clock() - self._stopped_at)

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM. Runs on the main thread, between any two of its instructions, and leaves
        the rest to the loop; but code of the application that holds up this very thread is interrupted: its import, and
        what still runs when a further signal comes before the loop has got to the last one."""
        self._signals.append(number)
        self._should_exit = True
        here = threading.get_ident() == self._thread  # not under `serve`
        if self._importing and here:
            raise Interrupted
        blocked = self._unheard and here and in_application(frame)
        self._unheard = True
        self._post(self._heard)
        if self._pool is not None:
            self._pool.signalled(lambda: not self._unheard, self.config.timeout_graceful_shutdown)
        if blocked:
            raise Interrupted

    def _heard(self) -> None:
        self._unheard = False
        if len(self._signals) == 1:
            self._stop()
        else:
            self._force()

    def _stop(self) -> None:
        if self._stopping or self._pool is None:
            return
        self._stopping = self._should_exit = True
        self._stopped_at = self._loop.clock()
        if self.started:
            logger.info("Shutting down")
        for listener in self.listeners:
            listener.refuse()  # as each worker does, but one that is blocked does so late
            listener.unlink()  # nobody can find a Unix socket any more; who has found it is served
        self._pool.stop(self.config.timeout_graceful_shutdown)

    def _force(self) -> None:
        """Ends at once what has not ended yet."""
        self._force_exit = True
        self._stop()
        if self._pool is not None:
            self._pool.force()


def _say_of_process(word: str) -> None:
    text = f"{word} server process [%s]"
    logger.info(text, os.getpid(), extra={"color_message": text.replace("%s", bold("%s", CYAN))})
