"""How an application is run: on threads or in processes, as one copy or as several.

Threads, where Python has no GIL. Processes, where it has one and there is more than one worker, or where the
application has brought a library that turned the GIL back on. On either, one worker has the thread that
runs the server.

Worker threads share one copy of the application, unless it holds an object that belongs to one event loop: then
each has its own (see `copies`). That can show when it has been imported, or when the first worker's lifespan has
started; both are before the second worker is made. One line of the log says what was chosen, and why.

Owner: the supervisor's thread.
"""

import contextlib
import contextvars
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pounce import loop_bound, stacks
from pounce.asgi.application import Loaded, load
from pounce.board import Board
from pounce.config import Config
from pounce.cpus import usable_cpus
from pounce.errors import StartupError
from pounce.handle import Told, WorkerHandle
from pounce.kernel.loop import Loop
from pounce.local import LocalWorker
from pounce.logging import flush_streams
from pounce.net.listeners import BALANCES, Listener
from pounce.processes import ProcessWorker
from pounce.threads import ThreadWorker

if TYPE_CHECKING:
    from pounce.copies import ModuleCopy  # most servers never need it, and it costs half a MiB

GIL_IS_BACK = "POUNCE_GIL_IS_BACK"
"""Set in the environment of a server that takes the place of one whose application has turned the GIL back on."""

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
    def __init__(self, config: Config) -> None:
        self._config = config
        wanted = config.workers if config.workers is not None else 1
        self.count = wanted or usable_cpus()
        """How many workers, to begin with."""
        self._gil_needed = GIL_IS_BACK in os.environ
        self.processes = config.worker_kind == "process" or (
            config.worker_kind == "auto" and self.count > 1 and (has_gil() or self._gil_needed)
        )
        self.board: Board | None = None
        """What the workers know of each other; one that is alone has no need of it."""
        self._loaded: Loaded | None = None
        self._context = contextvars.Context()
        """What the application has set while it was imported."""
        self._copied = False
        self._told_why = False

    def load(self, replace: Callable[[], object] | None) -> None:
        """Prepares what the workers share, the application too if they can. Raises StartupError.

        Where that turns the GIL back on, the workers must be processes, and the application should never have
        been imported here: `replace` is called, to start the server anew; None where that is not possible.
        """
        if not self.processes:
            self._load(replace)
        if self.count > 1 and (BALANCES or not self.processes):
            self.board = Board(self.count, processes=self.processes)
        stacks.prepare()

    def _load(self, replace: Callable[[], object] | None) -> None:
        before = has_gil()
        with _listening_to_warnings() as said:
            self._loaded = load(self._config)
        self._context = contextvars.copy_context()
        if has_gil() and not before and self.count > 1:
            named = [text.split("'")[1] for text in said if _GIL_WARNING in text and "'" in text]
            self._gil_is_back(named[0] if named else None, replace)
        self.look(" at import")

    def _gil_is_back(self, culprit: str | None, replace: Callable[[], object] | None) -> None:
        who = f"The extension module {culprit!r}" if culprit else "An extension module of the application"
        remedy = "use a version of it that supports free threading, or set PYTHON_GIL=0 if you know that it is safe"
        if self._config.worker_kind == "thread":
            logger.warning("%s has turned the GIL back on: the threads take turns. To change that, %s.", who, remedy)
            return
        logger.warning("%s has turned the GIL back on: workers will be processes. To change that, %s.", who, remedy)
        if replace is not None:
            replace()
        self.processes = self._gil_needed = True
        self._loaded = None

    def look(self, when: str) -> None:
        """Does the application hold something that forbids sharing it? `when` says where it would come from."""
        if self._loaded is None or self.count == 1 or self._copied or self._told_why:
            return
        wanted = self._config.app_copies
        held = loop_bound.find() if wanted == "auto" else None
        if wanted == "one" or (wanted == "auto" and held is None):
            return
        self._told_why = True
        obstacle = self._obstacle()
        because = f"{held} created{when} belongs to its loop" if held else "--app-copies worker"
        if obstacle is None:
            self._copied = True
            logger.info("Application: %d copies, because %s; libraries are shared%s.", self.count, because,
                        "; --app-copies one to override" if held else "")  # fmt: skip
        elif held:
            logger.warning("Application: one copy for %d workers, although %s, because %s. If its requests fail, "
                           "use --worker-kind process.", self.count, because, obstacle)  # fmt: skip
        else:
            raise StartupError(f"--app-copies worker is not possible, because {obstacle}")

    def _obstacle(self) -> str | None:
        """Why the application cannot be copied; None if it can."""
        app = self._config.app
        if not isinstance(app, str):
            return "it was handed over as an object, not as an import string"
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        if getattr(settings, "configured", False):
            return "Django keeps its models in one registry"
        from pounce.copies import root_of

        if root_of(app.partition(":")[0]) is None:
            return "it is not made of Python files of its own"
        return None

    def describe(self) -> str:
        """The workers, for the banner."""
        many = "s" if self.count > 1 else ""
        if not self.processes:
            return f"{self.count} worker thread{many}"
        because = ""
        if self._config.worker_kind == "auto":
            who = "the application needs" if self._gil_needed else "this Python has"
            because = f", because {who} the GIL"
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
        planned, self.count = self.count, number + 1
        try:
            self.look(" by now")
        except StartupError as error:
            self.count = planned
            return str(error)
        return ""

    @property
    def alone(self) -> bool:
        """Can the worker have the supervisor's thread? Not one that is to be given up when it is stuck: then the
        supervisor must not be stuck with it."""
        return not self.processes and self.count == 1 and self._config.timeout_worker_stuck is None

    def make(self, number: int, listeners: list[Listener], loop: Loop, told: Told, *, here: bool) -> WorkerHandle:
        """A worker for place `number`; `here`: on this thread, where it can have that."""
        board = self.board if self.board is not None and number < self.board.size else None
        if self.processes:
            return ProcessWorker(number, self._config, listeners, loop, told, board)
        load = self._loader(number)
        if here and self.alone:
            return LocalWorker(number, self._config, load, listeners, loop, told)
        return ThreadWorker(number, self._config, load, listeners, loop, told, board, self._context)

    def _loader(self, number: int) -> Callable[[], Loaded]:
        loaded = self._loaded
        assert loaded is not None
        if not self._copied or number == 0:
            return lambda: loaded
        from pounce.copies import ModuleCopy, root_of

        module = self._config.app.partition(":")[0]
        root = root_of(module)
        assert root is not None
        copy = ModuleCopy(number + 1, root)
        return partial(self._load_copy, copy)

    def _load_copy(self, copy: "ModuleCopy") -> Loaded:
        """On the worker's thread."""
        from pounce.copies import one_at_a_time

        copy.enter()
        with one_at_a_time:
            return load(self._config, copy.load)


def start_anew() -> None:
    """Replaces this process by the same command, whose workers will be processes."""
    os.environ[GIL_IS_BACK] = "1"
    flush_streams()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
