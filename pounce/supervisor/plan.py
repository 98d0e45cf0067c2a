"""How an application is run: on threads or in processes, as one copy or as several.

Threads, where Python has no GIL. Processes, where it has one and there is more than one worker, or where the
application has brought a library that turned the GIL back on. On either, one worker has the thread that
runs the server.

Worker threads share the application, but for what of it belongs to one event loop (see `sharing`). Where that cannot
be, workers are processes too. One line of the log says what was chosen, and why.

Owner: the supervisor's thread.
"""

import contextlib
import contextvars
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from pounce.app.loading import load
from pounce.app.sharing import NeedsProcesses, Sharing
from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.logging import flush_streams
from pounce.net.listeners import BALANCES, Listener
from pounce.observe import stacks
from pounce.supervisor.cpus import usable_cpus
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.local import LocalWorker
from pounce.supervisor.processes import ProcessWorker
from pounce.supervisor.threads import ThreadWorker
from pounce.worker.balance import Board
from pounce.worker.control import Report

PROCESSES_BECAUSE = "POUNCE_PROCESSES_BECAUSE"
"""Set in the environment of a server that takes the place of one whose application cannot run on threads: why."""

logger = logging.getLogger("pounce.error")


def has_gil() -> bool:
    """Does this interpreter, as it runs now, let only one thread at a time run Python?"""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


_GIL_WARNING = "global interpreter lock (GIL) has been enabled"


@contextlib.contextmanager
def _listening_to_warnings() -> Iterator[list[str]]:
    """The texts of the warnings that are shown meanwhile. Leaves the filters alone: the application may set its own."""
    said: list[str] = []
    before = warnings.showwarning

    def show(message: Any, *rest: Any, **more: Any) -> None:
        said.append(str(message))
        if _GIL_WARNING not in said[-1]:  # that one is told in our own words
            before(message, *rest, **more)

    warnings.showwarning = show
    try:
        yield said
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = before


class Plan:
    def __init__(self, config: Config, threads_fail: Callable[[str], object]) -> None:
        """`threads_fail` is called with the reason when a worker has shown that threads cannot run the application."""
        self._config = config
        self._threads_fail = threads_fail
        wanted = config.workers if config.workers is not None else 1
        self.count = wanted or usable_cpus()
        """How many workers, to begin with."""
        self._because = os.environ.get(PROCESSES_BECAUSE, "this Python has the GIL")
        """Why workers are processes, where they are and nobody has asked for it."""
        self.processes = config.worker_kind == "process" or (
            config.worker_kind == "auto" and self.count > 1 and (has_gil() or PROCESSES_BECAUSE in os.environ)
        )
        self.board: Board | None = None
        """What the workers know of each other; one that is alone has no need of it."""
        self._sharing: Sharing | None = None  # between threads

    def load(self, replace: Callable[[], object] | None) -> None:
        """Prepares what the workers share, the application too if they can. Raises StartupError.

        Where it turns out that the workers must be processes, the application should never have been imported here:
        `replace` is called, to start the server anew; None where that is not possible.
        """
        if not self.processes:
            self._load(replace)
        self._make_board()
        stacks.prepare()

    def _make_board(self) -> None:
        if self.count > 1 and (BALANCES or not self.processes):
            self.board = Board(self.count, processes=self.processes)

    def _load(self, replace: Callable[[], object] | None) -> None:
        before = has_gil()
        with _listening_to_warnings() as said:
            loaded = load(self._config)
        if has_gil() and not before and self.count > 1:
            named = [text.split("'")[1] for text in said if _GIL_WARNING in text and "'" in text]
            if self._gil_is_back(named[0] if named else None, replace):
                return
        self._sharing = Sharing(self._config, self.count, loaded, contextvars.copy_context())
        try:
            self._sharing.inspect(final=False)
        except NeedsProcesses as error:
            self.become_processes(str(error), replace)

    def _gil_is_back(self, culprit: str | None, replace: Callable[[], object] | None) -> bool:
        """Are the workers processes now?"""
        who = f"The extension module {culprit!r}" if culprit else "An extension module of the application"
        remedy = "use a version of it that supports free threading, or set PYTHON_GIL=0 if you know that it is safe"
        if self._config.worker_kind == "thread":
            logger.warning("%s has turned the GIL back on: the threads take turns. To change that, %s.", who, remedy)
            return False
        logger.warning("%s has turned the GIL back on: workers will be processes. To change that, %s.", who, remedy)
        self._be_processes("the application needs the GIL", replace)
        return True

    def look(self) -> None:
        """The first worker's application has started. Raises NeedsProcesses, StartupError."""
        if self._sharing is not None:
            self._sharing.inspect(final=True)

    def become_processes(self, why: str, replace: Callable[[], object] | None) -> None:
        """Threads cannot run this application, and none is running it."""
        logger.warning("Workers will be processes, because %s.", why)
        self._be_processes("the application needs it", replace)
        if self.board is not None:
            self.board.close()
        self._make_board()

    def _be_processes(self, because: str, replace: Callable[[], object] | None) -> None:
        if replace is not None:
            os.environ[PROCESSES_BECAUSE] = because
            replace()
        self.processes, self._because = True, because
        self._sharing = None

    def describe(self) -> str:
        """The workers, for the banner."""
        many = "s" if self.count > 1 else ""
        if not self.processes:
            return f"{self.count} worker thread{many}"
        because = ""
        if self._config.worker_kind == "auto":
            because = f", because {self._because}"
        return f"{self.count} worker process{'es' if many else ''}{because}"

    @property
    def not_renewable(self) -> str:
        """Why new workers would run the same application as the old ones; empty if they load it anew."""
        if not self.processes:
            return "threads share the application, which is imported once: restart the server, or use processes"
        if not isinstance(self._config.app, str):
            return "the application was handed over as an object, not as an import string"
        return ""

    def grow(self, number: int) -> str:
        """Prepares for a worker at a place `number`. Why there can be none, or nothing."""
        if self.processes or number < self.count:
            return ""
        if has_gil():
            return "with the GIL, threads only take turns; start the server with --worker-kind process"
        assert self._sharing is not None
        try:
            self._sharing.grow(number + 1)
        except (NeedsProcesses, StartupError) as error:
            return str(error)
        self.count = number + 1
        return ""

    @property
    def alone(self) -> bool:
        """Can the worker have the supervisor's thread? Not one that is to be given up when it is stuck: then the
        supervisor must not be stuck with it."""
        return not self.processes and self.count == 1 and self._config.timeout_worker_stuck is None

    def make(
        self, number: int, listeners: list[Listener], loop: Loop, on_report: OnReport, *, here: bool
    ) -> WorkerHandle:
        """A worker for place `number`; `here`: on this thread, where it can have that."""
        board = self.board if self.board is not None and number < self.board.size else None
        if self.processes:
            return ProcessWorker(number, self._config, listeners, loop, on_report, board)
        sharing = self._sharing
        assert sharing is not None
        load, context = sharing.worker_copy(number)
        if here and self.alone:
            return LocalWorker(number, self._config, load, listeners, loop, on_report)

        def hear(what: Report) -> None:
            if what is Report.READY:
                sharing.ready(number)
            if (what is Report.UNSUPPORTED and sharing.lifespan_unsupported(number)) or (
                what is Report.FAILED and sharing.start_failed(number)
            ):
                self._threads_fail(f"it starts on one worker thread and not on worker {number + 1}: {worker.reason}")
            else:
                on_report(what)

        worker = ThreadWorker(
            number, self._config, load, listeners, loop, hear, board, context, on_trial=sharing.is_probe(number)
        )
        return worker


def start_anew() -> None:
    """Replaces this process by the same command, whose workers will be processes."""
    flush_streams()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
