"""Which kind of workers runs the application, how many, and why.

Threads, where Python has no GIL. Processes, where it has one and there is more than one worker, or where the
application has imported a library that turned the GIL back on. A single worker has the server's thread on both.

Worker threads share the application, but for what of it belongs to one event loop (see `app.sharing`). Where that is
not possible, workers are processes, too. One line of the log says which kind was chosen, and why.

Owner: the supervisor's thread.
"""

import contextlib
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

from pounce.app.generations import ApplicationGenerations, CannotReload, LoadedGeneration
from pounce.app.loading import Loaded
from pounce.app.sharing import NeedsProcesses, Sharing
from pounce.app.types import Application
from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.net.listeners import BALANCES
from pounce.observe import stacks
from pounce.supervisor import cpus
from pounce.supervisor.generation import Generation, Kind, Wrap
from pounce.worker.balance import Balancer

PROCESSES_REASON = "POUNCE_PROCESSES_BECAUSE"
"""The environment variable that tells a server why it was executed again with worker processes."""

logger = logging.getLogger("pounce.error")


def has_gil() -> bool:
    """Does this interpreter, as it runs now, let only one thread at a time run Python?"""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


_GIL_WARNING = "global interpreter lock (GIL) has been enabled"


@contextlib.contextmanager
def _capturing_warnings() -> Iterator[list[str]]:
    """The texts of the warnings that are shown meanwhile. The filters stay as the application sets them."""
    texts: list[str] = []
    before = warnings.showwarning

    def show(message: Any, *rest: Any, **more: Any) -> None:
        texts.append(str(message))
        if _GIL_WARNING not in texts[-1]:  # the log says that one in other words
            before(message, *rest, **more)

    warnings.showwarning = show
    try:
        yield texts
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = before


class Plan:
    def __init__(self, config: Config, reexec: Callable[[], object] | None) -> None:
        """`reexec` executes the server's command again, with worker processes: the application should never have been
        imported by a server that forks them. None where the process is not the server's alone."""
        self._config = config
        self._reexec = reexec
        self.cpus = cpus.find() if config.workers == 0 else None
        """Where the number of workers follows from them."""
        self.count = self.cpus.usable if self.cpus is not None else config.workers or 1
        """How many workers there are at the start; more threads are added with `grow`."""
        self._reason = os.environ.get(PROCESSES_REASON, "this Python has the GIL")
        """Why workers are processes, where the operator has not chosen it."""
        processes = config.worker_kind == "process" or (
            config.worker_kind == "auto" and self.count > 1 and (has_gil() or PROCESSES_REASON in os.environ)
        )
        self._only_one = processes and config.should_reload
        """Is there one worker thread for --reload, where there would be processes?"""
        if self._only_one:
            processes, self.count = False, 1
        self._kind = Kind.PROCESS if processes else Kind.THREAD
        self.wrap: Wrap | None = None
        """What is put around the application on each worker thread."""
        self.application = ApplicationGenerations(config.reload_dirs if config.should_reload else ())
        """Loads the application, generation after generation, where workers are threads."""
        self._numbers = itertools.count(1)
        self._first: LoadedGeneration | None = None
        self.balancer: Balancer | None = None
        """What the workers know of each other. A single worker has none."""

    @property
    def processes(self) -> bool:
        return self._kind is Kind.PROCESS

    def first_generation(self) -> Generation:
        """Prepares what the workers share: for threads, imports the application. Raises StartupError."""
        if self._only_one:
            logger.info("--reload: one worker thread, because %s.", self._reason)
        found = None if self.processes else self._load(self._config, first=True)
        self._prepare_workers()
        return found if found is not None else self._generation(self._config)

    def _prepare_workers(self) -> None:
        """Makes what workers of the present number and kind need, in place of what others have needed."""
        if self.balancer is not None:
            self.balancer.close()
            self.balancer = None
        if self.count > 1 and (BALANCES or not self.processes):
            self.balancer = Balancer(self.count, processes=self.processes)
        stacks.prepare()

    def _generation(
        self, config: Config, shared: Sharing | None = None, loaded: LoadedGeneration | None = None
    ) -> Generation:
        return Generation(next(self._numbers), config, shared, self._kind, loaded, self.wrap)

    def next_generation(self, config: Config) -> Generation:
        """One that loads the application anew: for threads, imports its modules beside those that run, on whichever
        thread this is called. Raises StartupError, CannotReload."""
        if self.processes:
            return self._generation(config)
        found = self._load(config, first=False)
        assert found is not None
        return found

    def placeholder(self, application: Application) -> Generation:
        """A generation of an application of the server's own."""
        self._prepare_workers()
        loaded = Loaded(application, "3.0", "placeholder")
        return self._generation(self._config, Sharing(self._config, self.count, loaded, Context()))

    def roll_obstacle(self, config: Config) -> str:
        """Why new workers would run the same application as the old ones; empty if they load it anew."""
        if not self.processes:
            return self.application.obstacle(config)
        if not isinstance(config.app, str):
            return "the application was handed over as an object, not as an import string"
        return ""

    def _load(self, config: Config, *, first: bool) -> Generation | None:
        """A generation for threads. None if the first needs processes. Raises StartupError, CannotReload."""
        before = has_gil()
        with _capturing_warnings() as texts:
            loaded = self.application.first(config) if first else self.application.next(config)
        try:
            shared = Sharing(config, self.count, loaded.loaded, loaded.context)
            if has_gil() and not before and self.count > 1:
                named = [text.split("'")[1] for text in texts if _GIL_WARNING in text and "'" in text]
                if self._gil_reenabled(named[0] if named else None, may_switch=first):
                    return None
            shared.inspect(final=False)
        except NeedsProcesses as error:
            if not first:
                loaded.release()
                raise CannotReload(f"worker threads cannot share it any more: {error}") from None
            self._first = loaded
            return self._use_other_workers(str(error))
        except BaseException:
            loaded.release()
            raise
        self._first = self._first or loaded
        return self._generation(config, shared, loaded)

    def _use_other_workers(self, why: str) -> Generation | None:
        """Worker threads cannot share the application. None: workers are processes now; otherwise a generation for a
        single thread, because a reload is for threads."""
        if not self._config.should_reload:
            logger.warning("Workers will be processes, because %s.", why)
            self._switch_to_processes("the application needs it")
            return None
        logger.warning("One worker thread for --reload, because %s.", why)
        self.count = 1
        assert self._first is not None
        shared = Sharing(self._config, 1, self._first.loaded, self._first.context)
        return self._generation(self._config, shared, self._first)

    def _gil_reenabled(self, module: str | None, *, may_switch: bool) -> bool:
        """Are the workers processes now?"""
        what = f"The extension module {module!r}" if module else "An extension module of the application"
        remedy = "use a version of it that supports free threading, or set PYTHON_GIL=0 if you know that it is safe"
        if self._config.worker_kind == "thread" or self._config.should_reload or not may_switch:
            logger.warning("%s has turned the GIL back on: the threads take turns. To change that, %s.", what, remedy)
            return False
        logger.warning("%s has turned the GIL back on: workers will be processes. To change that, %s.", what, remedy)
        self._switch_to_processes("the application needs the GIL")
        return True

    def become_processes(self, why: str) -> Generation:
        """A generation of processes, or of a single thread for a reload, after the workers of one of threads have
        ended."""
        found = self._use_other_workers(why)
        self._prepare_workers()
        return found if found is not None else self._generation(self._config)

    def _switch_to_processes(self, reason: str) -> None:
        if self._reexec is not None:
            os.environ[PROCESSES_REASON] = reason
            self._reexec()
        self._kind, self._reason = Kind.PROCESS, reason

    def describe(self) -> str:
        """The workers, for the banner."""
        many = "s" if self.count > 1 else ""
        if not self.processes:
            return f"{self.count} worker thread{many}"
        because = ""
        if self._config.worker_kind == "auto":
            because = f", because {self._reason}"
        return f"{self.count} worker process{'es' if many else ''}{because}"

    def grow(self, application: Sharing | None, number: int) -> str:
        """Prepares the application of the pool's generation for a worker in the slot `number`. Why there can be none,
        or an empty string."""
        if application is None or number < self.count:
            return ""
        if has_gil():
            return "with the GIL, threads only take turns; start the server with --worker-kind process"
        try:
            application.grow(number + 1)
        except (NeedsProcesses, StartupError) as error:
            return str(error)
        self.count = number + 1
        return ""

    @property
    def in_supervisor_thread(self) -> bool:
        """Can the worker have the supervisor's thread? Not one that is given up when it is blocked for too long: then
        the supervisor must not be blocked with it; nor with a reload, whose supervisor watches files; nor with an admin
        listener, which answers meanwhile."""
        config = self._config
        busy = config.timeout_worker_stuck is not None or config.reload or config.admin is not None
        return not self.processes and self.count == 1 and not busy
