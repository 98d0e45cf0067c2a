"""The reload, for development: a file changes, and the server serves the application as it is now.

A change of the application's own files makes a new generation in this process. Any other change of what the process has
loaded (a library, an extension module, a file that is read only at the start) needs a new process: first a fresh one
tries whether the application can be loaded, then this one drains and executes its command again, in place. The
listening sockets stay open, so clients wait and none is refused.

A mistake leaves the last generation serving, and browsers get a page that says what is wrong.

    STARTING    the first generation has not served yet. A change ends its start, which may hang
    WATCHING    the newest generation serves, or its mistake is known
    RENEWING    a new generation is loaded and takes the slots. A change waits for the load, but not for ever, and ends
                a start
    CHECKING    a fresh process tries to load the application. A change ends that
    RESTARTING  the process is about to execute its command again

No code of the application is waited for without an end: it may be the very mistake that the next change mends.

Owner: the supervisor's thread.
"""

import contextlib
import enum
import importlib.util
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable

from pounce.app.generations import CannotReload, Origin
from pounce.app.loading import log_failure_to_load
from pounce.app.running import Mark, mark_of
from pounce.asgi.placeholder import placeholder
from pounce.asgi.reload_page import ReloadPage
from pounce.config.config import Config
from pounce.config.sources import files_read_at_start
from pounce.errors import StartupError, first_line
from pounce.kernel.loop import Loop, Timer
from pounce.supervisor.check import Check
from pounce.supervisor.folder import CurrentFolder
from pounce.supervisor.generation import Generation
from pounce.supervisor.inheritance import Command
from pounce.supervisor.plan import Plan
from pounce.supervisor.renewal import Failure, Renewal, RenewalState
from pounce.watch.filter import Filter
from pounce.watch.watcher import Watcher, watch

RELOAD_GRACE = 2.0
"""Seconds that requests have to end before the process executes its command again."""
MAX_LOAD = 10.0
"""Seconds that a change waits for the application's import. A thread that imports for ever cannot be ended, so then a
new process is needed."""
THREAD_GRACE = 2.0
"""Seconds that threads have to end after the workers of their generation, before the log names them."""
MAX_NAMES = 3
"""Changed files and threads that the log names."""

logger = logging.getLogger("pounce.error")


class ReloadState(enum.Enum):
    STARTING = "starting"
    WATCHING = "watching"
    RENEWING = "renewing"
    CHECKING = "checking"
    RESTARTING = "restarting"


TRANSITIONS = {
    ReloadState.STARTING: {ReloadState.WATCHING},
    ReloadState.WATCHING: {ReloadState.RENEWING, ReloadState.CHECKING},
    ReloadState.RENEWING: {ReloadState.WATCHING, ReloadState.CHECKING},
    ReloadState.CHECKING: {ReloadState.WATCHING, ReloadState.RENEWING, ReloadState.RESTARTING},
    ReloadState.RESTARTING: set(),
}
"""What may follow on each state."""


class Reload:
    def __init__(
        self, config: Config, loop: Loop, plan: Plan, renewal: Renewal, command: Command | None,
        restart_process: Callable[[float], object],
        start_again: Callable[[Callable[[], Generation], float], object],
    ) -> None:  # fmt: skip
        """`command`: the server's; None where the process is not the server's alone. `restart_process` ends the server
        within so many seconds and executes that again. `start_again` gives the first generation up, and starts the
        one that it is given a call for."""
        self._command = command
        self._config = config
        self._loop = loop
        self._plan = plan
        self._renewal = renewal
        self._restart_process = restart_process
        self._start_again = start_again
        self._folder = CurrentFolder()
        self.page = ReloadPage(browser=config.reload_browser)
        plan.wrap = self.page.wrap
        self.state = ReloadState.STARTING
        self.failed = False
        """Is a placeholder served, because the first generation did not start?"""
        self._read_at_start = files_read_at_start(config, os.getcwd())
        self._files = {os.path.realpath(path) for path in self._read_at_start}
        self._waiting: set[str] = set()
        """Changed files that are not looked at yet."""
        self._patience: Timer | None = None
        """Ends with the patience for the import that they wait for."""
        self._needs_process = ""
        """Why the application cannot be loaded twice in this process, when it has shown that."""
        self._changed_at = 0.0
        self._check: Check | None = None
        self._checking: tuple[str, StartupError | None] = "", None
        """Why the check was begun, and what the load in this process has raised, if that is the reason."""
        self._closed = False
        self._watcher: Watcher | None = None

    def first_generation(self) -> Generation:
        """Begins to watch, so that no change is missed, and imports the application."""
        self._watch()
        try:
            return self._plan.first_generation()
        except StartupError as error:
            log_failure_to_load(error)
            return self.placeholder(error)
        except SystemExit as error:
            logger.error("%s", _report(error))
            return self.placeholder(error)

    def placeholder(self, failure: Failure = "The application did not start. The server's log says why.") -> Generation:
        """What is served while the application cannot be loaded, or does not start."""
        self.failed = True
        self.page.failed(_report(failure))
        logger.warning("Waiting for a change that mends it.")
        return self._plan.placeholder(placeholder)

    def _meanwhile(self) -> Generation:
        """What is served until the application is loaded again, after a change during its first start."""
        self.failed = True
        self.page.failed("A file has changed. The application is loaded again.")
        return self._plan.placeholder(placeholder)

    def _watch(self) -> None:
        config = self._config
        found = Filter(
            config.reload_dirs, config.reload_includes, config.reload_excludes,
            files=self._read_at_start, default=[config.app_dir] if config.app_dir else [],
        )  # fmt: skip
        self._watcher = watch(self._loop, found, self._on_change, config.reload_delay)
        logger.info("Will watch for changes in these directories: %s", sorted(found.roots))
        logger.info("Started reloader process [%d] using %s", os.getpid(), self._watcher.how)

    def close(self) -> None:
        self._closed = True
        self.page.close()
        if self._watcher is not None:
            self._watcher.close()
        if self._check is not None:
            self._check.close()

    def serving(self, number: int) -> None:
        """The first generation serves; its number."""
        if not self.failed:
            self.page.ready(number)
        self._enter_watching()

    def _enter_watching(self) -> None:
        self.state = ReloadState.WATCHING
        if self._waiting:
            changed, self._waiting = self._waiting, set()
            self._on_change(changed)

    # A change

    def on_signal(self) -> None:
        """SIGHUP."""
        if self.state is ReloadState.WATCHING:
            logger.info("SIGHUP: reloading.")
            self._reload(set())
        else:
            logger.info("SIGHUP is ignored: a reload is under way.")

    def _on_change(self, changed: set[str]) -> None:
        if self._closed or self.state is ReloadState.RESTARTING:
            return
        if self.state is ReloadState.STARTING:
            first = not self._waiting
            self._waiting |= changed
            if first and not self.failed:
                logger.warning("%s detected changes in %s. Starting again...", self._how, self._names(changed))
                self._start_again(self._meanwhile, RELOAD_GRACE)
        elif self.state is ReloadState.RENEWING and self._renewal.state is RenewalState.LOADING:
            self._waiting |= changed
            if self._patience is None:
                end = self._changed_at + MAX_LOAD
                self._patience = self._loop.call_at(end, self._give_up_load)
        else:
            logger.warning("%s detected changes in %s. Reloading...", self._how, self._names(changed))
            self._reload(changed)

    def _give_up_load(self) -> None:
        self._patience = None
        if self.state is ReloadState.RENEWING and not self._closed:
            changed, self._waiting = self._waiting, set()
            logger.warning("%s detected changes in %s. Reloading...", self._how, self._names(changed))
            self._reload(changed)

    def _reload(self, changed: set[str]) -> None:
        self._changed_at = self._loop.clock()
        self._folder.return_to()
        _forget_compiled(changed)
        why = self._why_process(changed)
        if self._check is not None:  # of the code before this change
            self._check.close()
            self._check = None
            before, failure = self._checking
            why = why or (before if failure is None else "")
        if why:
            self._try_process(why)
        else:
            if self.state is not ReloadState.RENEWING:
                self.state = ReloadState.RENEWING
            self._renewal.begin(self._config, self._renewed)

    @property
    def _how(self) -> str:
        return self._watcher.how if self._watcher is not None else "pounce"

    def _names(self, changed: Iterable[str]) -> str:
        folder = self._folder.path + os.sep
        names = sorted(path.removeprefix(folder) for path in changed)
        more = len(names) - MAX_NAMES
        return ", ".join(f"'{name}'" for name in names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")

    def _why_process(self, changed: Iterable[str]) -> str:
        """Why the change needs a new process; empty if it does not."""
        if self._needs_process:
            return self._needs_process
        if self._renewal.state is RenewalState.LOADING:  # it was given up, and its thread cannot be ended
            return "the import before this change has not ended"
        at_start = sorted(self._files.intersection(changed))
        if at_start:
            return f"{self._names(at_start)} is read only at the start"
        if why := self._plan.roll_obstacle(self._config):
            return why
        loaded = _names_of_loaded_files()  # a checkout changes thousands of files, and there are a thousand modules
        for path in sorted(path for path in changed if os.path.basename(path) in loaded):
            if self._plan.application.origin(path, self._config) is Origin.LIBRARY:
                return f"{self._names([path])} belongs to a library"
        return ""

    def _renewed(self, generation: Generation | None, failure: Failure | None) -> None:
        if self.state is not ReloadState.RENEWING or self._closed:
            return  # another change needs a new process, and that comes next
        self._end_patience()
        if failure is None:
            assert generation is not None
            self.page.ready(generation.number)
            logger.info("Reloaded in %.0f ms.", (self._loop.clock() - self._changed_at) * 1000)
        elif isinstance(failure, CannotReload):
            self._needs_process = str(failure)
            self._try_process(self._needs_process)
            return
        elif isinstance(failure, StartupError) and failure.__cause__ is not None and not _is_mistake(failure.__cause__):
            # It may be that the modules cannot be executed twice in one process. A fresh one tells.
            error = failure.__cause__
            why = f"loading its modules again has failed: {type(error).__name__}: {first_line(error)}"
            self._try_process(why.removesuffix("."), failure)
            return
        else:
            self._failed(failure)
        self._enter_watching()

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure, StartupError):
            log_failure_to_load(failure)
        elif isinstance(failure, SystemExit):
            logger.error("%s", _report(failure))
        elif isinstance(failure, BaseException):
            logger.critical("Loading the application has failed.", exc_info=failure)
        self.page.failed(_report(failure))
        logger.warning("The application is served as it was before the change, until the next one.")

    def ended(self, generation: Generation) -> None:
        """The last worker of a generation has ended."""
        if generation.loaded is not None and not self._closed:
            mark = generation.loaded.life.mark
            self._loop.call_later(THREAD_GRACE, lambda: self._name_threads(mark))

    def _name_threads(self, mark: Mark) -> None:
        names = [] if self._closed else threads_of(mark)
        if names:
            logger.warning(
                "Code from before the change still runs in %s. A thread that the application starts has to end when "
                "its lifespan shuts down.", ", ".join(f"the thread {name!r}" for name in names[:MAX_NAMES]),
            )  # fmt: skip

    # A new process

    def _try_process(self, why: str, failure: StartupError | None = None) -> None:
        """`failure`: what the load in this process has raised."""
        if self._command is None:
            logger.warning("Not reloaded: it needs a new process, because %s. Restart the program.", why)
            if failure is not None:
                self._failed(failure)
            self._enter_watching()
            return
        _forget_compiled(self._waiting)
        self._waiting.clear()  # the new process will have read them
        self._checking = why, failure
        if self.state is not ReloadState.CHECKING:
            self.state = ReloadState.CHECKING
        try:
            self._check = Check(self._loop, self._command, self._checked)
        except OSError as error:
            self._checked(1, f"A new process cannot be started: {self._command.describe(error)}.")

    def _checked(self, code: int, output: str) -> None:
        why, failure = self._checking
        self._check = None
        if code == 0:
            if failure is not None:
                self._needs_process = why
            logger.info("Restarting the process, because %s.", why)
            self.state = ReloadState.RESTARTING
            self._restart_process(RELOAD_GRACE)
            return
        error = failure.__cause__ if failure is not None else None
        if failure is not None and (isinstance(error, SystemExit) or str(error) in output):
            self._failed(failure)
        else:  # a fresh process has got further than this one, and fails for another reason
            logger.error("The application cannot be loaded:\n%s", output.rstrip())
            self._failed(output)
        self._enter_watching()


def threads_of(mark: Mark) -> list[str]:
    """The names of threads that run code of this generation of the application."""
    frames, found = sys._current_frames(), []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        while frame is not None and mark_of(frame.f_globals.get("__spec__")) is not mark:
            frame = frame.f_back
        if frame is not None:
            found.append(thread.name)
    return sorted(found)


def _names_of_loaded_files() -> set[str]:
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return {os.path.basename(file) for file in files if isinstance(file, str)}


def _forget_compiled(changed: Iterable[str]) -> None:
    """A compiled file knows the time of its source in whole seconds: a new process would take that of a source that has
    changed twice within one for the present one's."""
    for path in changed:
        if path.endswith(".py"):
            with contextlib.suppress(OSError, NotImplementedError):
                os.unlink(importlib.util.cache_from_source(path))


def _is_mistake(error: BaseException) -> bool:
    """Would the same code fail in a fresh process, too?"""
    return isinstance(error, SyntaxError | ImportError | NameError)


def _report(failure: Failure) -> str:
    """What a developer needs to see of it."""
    if isinstance(failure, StartupError) and failure.__cause__ is not None:
        return f"{failure}\n\n" + "".join(traceback.format_exception(failure.__cause__))
    if isinstance(failure, SystemExit):
        return f"The application has called sys.exit({failure.code!r}) while it was imported."
    if isinstance(failure, StartupError | str):
        return str(failure)
    return "".join(traceback.format_exception(failure))
