"""Starts the workers, keeps their number, hears signals, and ends the whole in order.

On a Python without the GIL the workers are threads of this process. With it they are processes, unless there is
only one: a single worker is a thread on either. The supervisor itself is a loop like a worker's, on the thread
that called `run`: everything that happens to it is a call on that loop, so nothing here needs a lock.

Order of start: sockets are bound, the application is imported, the first worker starts its lifespan, the others
follow, and when all are ready clients are let in. So every mistake shows once, and before anyone is served.

Order of the end: each worker drains; after the graceful time-out running exchanges are cancelled; a worker that
still does not end is given up, or killed if it is a process. The second signal begins with that last step.
"""

import contextlib
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from pounce.asgi.application import Loaded, load
from pounce.config import Config
from pounce.cpus import usable_cpus
from pounce.errors import StartupError
from pounce.kernel.loop import Loop, Timer
from pounce.logging import configure
from pounce.net.listeners import Address, Listener, open_listeners
from pounce.processes import ProcessWorker
from pounce.threads import ThreadWorker
from pounce.version import __version__
from pounce.worker import CANCEL_GRACE, Report

QUICK = 10.0
"""Seconds; a worker that dies sooner is replaced after a delay, which grows."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0
ATTEMPTS = 6
"""Quick deaths in a row after which the server gives up."""
LAST_WORDS = 1.0
"""Seconds between giving a worker up and going without it."""

logger = logging.getLogger("pounce.error")


class WorkerHandle(Protocol):
    """What the supervisor holds of a worker, whether it is a thread or a process."""

    name: str

    def start(self) -> None: ...
    def serve(self) -> None: ...
    def stop(self) -> None: ...
    def cancel(self) -> None: ...
    def abandon(self) -> None: ...
    def kill(self) -> bool: ...
    def join(self) -> None: ...

    @property
    def failed(self) -> bool: ...


class Slot:
    """The place of one worker. Its number chooses its sockets; who stands in it may change."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerHandle | None = None
        self.ready = False
        self.started_at = 0.0
        self.quick_deaths = 0
        self.retry: Timer | None = None


class Server:
    """The server as an object: `run` it, on the main thread (then it hears SIGINT and SIGTERM) or on any other.

    `started` is true from when clients are let in; setting `should_exit` to true ends the server in order, from
    any thread; setting `force_exit` as well ends it at once.
    """

    def __init__(self, config: Config, notes: Sequence[str] = ()) -> None:
        self.config = config
        self.started = False
        self.left_behind = False
        """Was a worker thread left running that did not end?"""
        self._settled = threading.Event()  # started, or ended without having started
        self._notes = notes  # warnings from before there was a log
        self._should_exit = False
        self._force_exit = False
        self._loop = Loop()
        self.listeners: list[Listener] = []
        """Where it listens, one per address."""
        self._slots: list[Slot] = []
        self._living: set[WorkerHandle] = set()
        self._loaded: Loaded | None = None
        self._signals: list[int] = []
        self._stopping = False
        self._over = False
        self._exit_code = 0

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

    def run(self) -> None:
        """Serves until told to stop. Raises SystemExit with uvicorn's code when the server cannot start: 3, or 2
        for an option that cannot be. A signal that ended it is raised again when all is done."""
        try:
            self._configure_logging()
            for note in self._notes:
                logger.warning(note)
            self._prepare()
            with self._hearing_signals():
                self._serve()
        except StartupError as error:
            logger.error(error, exc_info=error.__cause__)
            self._exit_code = error.exit_code
        finally:
            for listener in self.listeners:
                listener.close()
            self._loop.close()
            self._settled.set()
        if self._exit_code:
            raise SystemExit(self._exit_code)
        if self._signals and (self._loaded is not None or self._signals[0] == signal.SIGINT):
            signal.raise_signal(self._signals[0])

    def _configure_logging(self) -> None:
        try:
            configure(self.config)
        except StartupError:
            configure(Config(""))  # so that there is a log to say it in
            raise

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # somebody else's program: its signals are its own
            return
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        wakeup = signal.set_wakeup_fd(self._loop.wakeup_fd, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _prepare(self) -> None:
        """Binds the sockets and, for threads, imports the application."""
        count = self.config.workers if self.config.workers is not None else 1
        self._slots = [Slot(number) for number in range(count or usable_cpus())]
        self.listeners = open_listeners(self.config.binds(), len(self._slots))
        if len(self._slots) == 1 or not has_gil():
            self._loaded = load(self.config)

    def _serve(self) -> None:
        self._banner()
        logger.info("Waiting for application startup.")
        self._start(self._slots[0])
        while not self._over:
            self._loop.turn()
        if self.started:
            logger.info("Finished server process [%d]", os.getpid())

    def _banner(self) -> None:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        count = len(self._slots)
        if self._loaded is None:
            workers = f"{count} worker processes, because this Python has the GIL"
        else:
            workers = f"{count} worker thread{'s' if count > 1 else ''}"
        free = "" if has_gil() else " free-threaded"
        logger.info("Pounce %s on %s%s, %s", __version__, python, free, workers)
        logger.info("Started server process [%d]", os.getpid())

    # Workers

    def _start(self, slot: Slot) -> None:
        """Puts a new worker in the place."""
        told = partial(self._told, slot)
        worker: WorkerHandle
        if self._loaded is not None:
            worker = ThreadWorker(
                slot.number, self.config, self._loaded, self.listeners, self._loop, lambda what: told(worker, what)
            )
        else:
            worker = ProcessWorker(
                slot.number, self.config, self.listeners, self._loop, lambda what: told(worker, what)
            )
        slot.worker = worker
        slot.started_at = self._loop.clock()
        slot.retry = None
        self._living.add(worker)
        worker.start()

    def _told(self, slot: Slot, worker: WorkerHandle, what: Report) -> None:
        """A worker has reported something."""
        if what is Report.READY:
            self._ready(slot, worker)
        elif what is Report.FAILED:
            if not self.started and not self._stopping:
                logger.error("Application startup failed. Exiting.")
                self._fail(3)
        elif what in (Report.RETIRING, Report.CRASHED):
            self._retiring(slot, worker, what)
        else:
            self._ended(slot, worker)

    def _ready(self, slot: Slot, worker: WorkerHandle) -> None:
        if self._stopping:
            return
        if self.started:
            worker.serve()
            return
        slot.ready = True
        for other in self._slots:
            if other.worker is None:  # the first has shown that the application starts: now the others
                self._start(other)
        if all(other.ready for other in self._slots):
            self._open()

    def _open(self) -> None:
        """All workers are ready: lets clients in."""
        logger.info("Application startup complete.")
        try:
            for listener in self.listeners:
                listener.listen(self.config.backlog)
        except StartupError as error:
            logger.error(error)
            self._fail(error.exit_code)
            return
        for slot in self._slots:
            assert slot.worker is not None
            slot.worker.serve()
        self.started = True
        self._settled.set()
        for listener in self.listeners:
            logger.info("Pounce running on %s (Press CTRL+C to quit)", listener.url)

    def _retiring(self, slot: Slot, worker: WorkerHandle, what: Report) -> None:
        if self._stopping or slot.worker is not worker:
            return
        if what is Report.RETIRING and len(self._slots) == 1:
            self._stop()  # as uvicorn: the only worker takes the server with it
        elif what is Report.RETIRING:
            self._start(slot)
        else:
            self._replace(slot)

    def _ended(self, slot: Slot, worker: WorkerHandle) -> None:
        self._living.discard(worker)
        worker.join()
        if self._stopping:
            if not self._living:
                self._over = True
        elif slot.worker is worker:
            if not self.started:
                self._fail(getattr(worker, "exit_code", 3) or 3)
            else:
                logger.error("Worker %d (%s) died.", slot.number + 1, worker.name)
                self._replace(slot)

    def _replace(self, slot: Slot) -> None:
        """A worker has failed: another takes its place, at once the first time, later if that fails as well."""
        slot.worker = None
        if self._loop.clock() - slot.started_at > QUICK:
            slot.quick_deaths = 0
        slot.quick_deaths += 1
        if slot.quick_deaths > ATTEMPTS:
            logger.critical("Worker %d has failed %d times in a row. Exiting.", slot.number + 1, slot.quick_deaths)
            self._fail(3)
            return
        delay = 0.0 if slot.quick_deaths == 1 else min(FIRST_DELAY * 2 ** (slot.quick_deaths - 2), LONGEST_DELAY)
        logger.info("Starting worker %d again%s.", slot.number + 1, f" in {delay:g} s" if delay else "")
        slot.retry = self._loop.call_later(delay, lambda: self._start(slot))

    # The end

    def _signalled(self, number: int, _frame: object) -> None:
        """Runs on the main thread, between any two of its instructions: leaves the rest to the loop."""
        self._signals.append(number)
        self._loop.call_soon(self._stop if len(self._signals) == 1 else self._force)

    def _fail(self, code: int) -> None:
        self._exit_code = self._exit_code or code
        self._stop()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._should_exit = True
        if self.started:
            logger.info("Shutting down")
        for slot in self._slots:
            if slot.retry is not None:
                slot.retry.cancel()
        if not self._living:
            self._over = True
            return
        for worker in self._living:
            worker.stop()
        for listener in self.listeners:
            listener.unlink()  # nobody can find a Unix socket any more; who has found it is served
        patience = self.config.timeout_graceful_shutdown
        if patience is not None:
            self._loop.call_later(patience, self._cancel)

    def _cancel(self) -> None:
        for worker in self._living:
            worker.cancel()
        # A worker that can still turn its loop ends by itself now, its lifespan's shutdown within its own bound.
        patience = self.config.timeout_graceful_shutdown or 0.0
        self._loop.call_later(CANCEL_GRACE + patience + LAST_WORDS, self._force)

    def _force(self) -> None:
        """Ends at once what has not ended yet."""
        self._stop()
        for worker in self._living:
            worker.abandon()
        self._loop.call_later(LAST_WORDS, self._leave)

    def _leave(self) -> None:
        """Goes without the workers that do not answer."""
        for worker in list(self._living):
            if not worker.kill():
                logger.error("Worker %s does not end; leaving it behind.", worker.name)
                self._living.discard(worker)
                self.left_behind = True
        self._over = not self._living


def has_gil() -> bool:
    """Does this interpreter, as it runs now, let only one thread at a time run Python?"""
    return getattr(sys, "_is_gil_enabled", lambda: True)()
