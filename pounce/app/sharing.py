"""Sharing: one application on several worker threads, and what of it each worker has for itself.

Threads share the whole application, unless it holds an object that belongs to one event loop. Then whatever leads to
that object is copied for every further worker (see `copies`), and the rest is shared. If copying is not possible
either, workers have to be processes.

The application is inspected twice: when it has been imported, and when the first worker's lifespan has started. The
second inspection decides. Must never inspect it on the request path.

Owner: the supervisor's thread.
"""

import contextlib
import logging
from collections.abc import Callable, Container
from contextvars import Context
from typing import TYPE_CHECKING, Any

from pounce.app import loop_bound, running
from pounce.app.loading import ApplicationFailed, Loaded, load, without_server_frames
from pounce.app.modules import obstacle_to_second_import
from pounce.config.config import Config
from pounce.errors import StartupError, first_line

if TYPE_CHECKING:
    from pounce.app.copies import Copies  # most servers never need it, and it takes half a MiB

logger = logging.getLogger("pounce.error")


class NeedsProcesses(Exception):
    """Worker threads cannot run this application. The text completes "workers will be processes, because ..."."""


MAX_NAMES = 5  # modules that the log names
MAX_MIDDLEWARE = 20  # objects around an application that are searched for its state


type WorkerCopy = tuple[Callable[[], Loaded], Context]
"""A function that gives a worker its application, on its thread, and the context in which that was imported."""


class Sharing:
    """One application, on several worker threads."""

    def __init__(self, config: Config, count: int, loaded: Loaded, context: Context) -> None:
        """`context` has the context variables that the application has set while it was imported."""
        self._config = config
        self._generation = running.of(context)
        self._count = count
        self._loaded = loaded
        self._context = context
        self._state = _state(loaded.application)
        self._copies: Copies | None = None
        self._prepared: list[WorkerCopy] = []
        self._decided = count == 1 or config.app_copies == "one"
        self._ready: set[int] = set()  # numbers of workers
        self._unsupported = False  # does the application not support lifespan on the first worker?

    # What the workers report

    def is_probe(self, number: int) -> bool:
        """Would a failure of this worker to start show that threads cannot share the application? Only for a further
        worker, and before the server accepts."""
        return number > 0 and self._config.worker_kind == "auto" and len(self._ready) < self._count

    def ready(self, number: int) -> None:
        """The worker with this number has started."""
        self._ready.add(number)

    def lifespan_unsupported(self, number: int) -> bool:
        """The application does not support lifespan on this worker. Does that show that it starts on one thread
        only?"""
        if number == 0:
            self._unsupported = True
        return not self._unsupported and self.is_probe(number)

    def start_failed(self, number: int) -> bool:
        """The worker has failed to start. Does that show that the application starts on one thread only?"""
        return self.is_probe(number)

    # What the application holds

    def inspect(self, *, final: bool) -> None:
        """Searches the application for objects that forbid sharing it; with `final`, makes copies if there are any.
        Raises NeedsProcesses, StartupError."""
        if self._decided:
            return
        if self._generation is not None:
            with running.entered(self._generation.mark):
                self._inspect(final=final)
            if final:
                self._generation.earlier.clear()
        else:
            self._inspect(final=final)

    def _inspect(self, *, final: bool) -> None:
        earlier = self._generation.earlier if self._generation is not None else ()
        try:
            state, values = _state(self._loaded.application)
            found = _needed_copies(
                self._config, self._loaded.application, state if values != self._state[1] else None, earlier
            )
            if not final:
                return
            if found is not None:
                self._copies = found
                if self._generation is not None:
                    self._generation.on_end.append(found.close)
                self._prepared = [self._copy() for _ in range(self._count - 1)]
                self._log_copies(found)
        except NeedsProcesses as error:
            self._copies = None
            if self._config.worker_kind != "thread":
                raise
            logger.warning("Application: one copy for %d workers, although %s. If its requests fail, use "
                           "--worker-kind process.", self._count, error)  # fmt: skip
        self._decided = True

    def grow(self, count: int) -> None:
        """There will be `count` workers. Raises NeedsProcesses, StartupError."""
        if self._count == 1:  # the application has not been inspected so far
            self._decided = self._config.app_copies == "one"
            self._count = count
            try:
                self.inspect(final=True)
            except BaseException:
                self._count = 1
                raise
        self._count = max(self._count, count)

    def _log_copies(self, found: "Copies") -> None:
        names = [source.name for source in found.sources.values()]
        logger.info(
            "Application: %d copies of %s, because %s; everything else is shared%s.",
            self._count,
            ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""),
            self._reason(found),
            "; --app-copies one to override" if self._config.app_copies == "auto" else "",
        )

    def _reason(self, found: "Copies") -> str:
        if self._config.app_copies == "worker":
            return "of --app-copies worker"
        if found.reason is None:
            return "each worker's lifespan sets its state"
        return f"{found.reason} belongs to one event loop"

    def worker_copy(self, number: int) -> WorkerCopy:
        """The application of the worker with this number. Raises StartupError."""
        if self._copies is None or number == 0:
            return self._take, self._context
        if self._prepared:
            return self._prepared.pop()
        try:
            return self._copy()
        except NeedsProcesses as error:  # though earlier copies could be made
            raise StartupError(f"Error loading ASGI app: {error}.") from None

    def _take(self) -> Loaded:
        """Called on the worker's thread."""
        if self._generation is not None:
            running.enter(self._generation.mark)
        return self._loaded

    def _copy(self) -> WorkerCopy:
        """A further copy. Raises NeedsProcesses, or ApplicationFailed if copies were asked for."""
        found = self._copies
        assert found is not None
        module = self._config.app.partition(":")[0]
        context = self._context.copy()
        try:
            copy = context.run(found.make, module)
            loaded = context.run(copy.run, lambda: load(self._config)) if found.application_bound else self._loaded
        except (Exception, SystemExit) as error:
            cause = error.__cause__ or error
            if self._config.app_copies == "worker":
                raise ApplicationFailed(
                    f'Error loading ASGI app. Copying "{module}" has failed:'
                ) from without_server_frames(cause)
            raise NeedsProcesses(
                f"{self._reason(found)}, and what leads to it cannot be executed twice: "
                f"{type(cause).__name__}: {first_line(cause)}"
            ) from None

        def take() -> Loaded:
            self._take()
            copy.enter()
            return loaded

        return take, context


def _state(application: Any) -> tuple[object, dict[str, int]]:
    """The `state` of an application of Starlette's kind, and the ids of the objects it holds, by name."""
    with contextlib.suppress(Exception):
        for _ in range(MAX_MIDDLEWARE):
            state: Any = getattr(application, "state", None)
            if type(state).__module__.partition(".")[0] == "starlette":
                return state, {name: id(value) for name, value in state._state.items()}
            application = application.app
    return None, {}


def _needed_copies(config: Config, application: object, state: object, earlier: Container[object]) -> "Copies | None":
    """The copies that workers need; None if threads can share the application as it is now. Raises NeedsProcesses, or
    StartupError if copies were asked for and cannot be made."""
    if config.app_copies == "auto" and not loop_bound.any_exists(earlier):
        return None
    from pounce.app.reexecution import CannotCopy

    try:
        return _copies(config, application, state, earlier)
    except CannotCopy as error:
        if config.app_copies == "worker":
            raise StartupError(f"--app-copies worker is not possible, because {error}") from None
        raise NeedsProcesses(str(error)) from None
    except Exception as error:  # objects of any class may raise when an attribute is read
        logger.debug("The application could not be inspected:", exc_info=True)
        raise NeedsProcesses(
            f"inspecting its objects has failed ({type(error).__name__}: {first_line(error)})"
        ) from None


def _copies(config: Config, application: object, state: object, earlier: Container[object]) -> "Copies | None":
    from pounce.app.copies import Copies
    from pounce.app.modules import ApplicationModules, root_of
    from pounce.app.reexecution import CannotCopy

    everything = config.app_copies == "worker"
    module = config.app.partition(":")[0] if isinstance(config.app, str) else None
    root = root_of(module) if module is not None else None
    modules = ApplicationModules(root or "/")
    obstacle = obstacle_to_second_import(config.app, root is not None)
    if everything and obstacle is not None:
        raise CannotCopy(obstacle)
    if obstacle is not None:
        state = None  # workers share it
    found = Copies(modules, application, everything=everything, state=state, earlier=earlier)
    if found.reason is not None and obstacle is not None:
        raise CannotCopy(f"{found.reason} belongs to one event loop, and {obstacle}")
    if (
        not everything
        and (held := loop_bound.held_by_library(modules.contains, found.belongs_to_application, earlier)) is not None
    ):
        raise CannotCopy(f"{held[0]} holds an {held[1]}, which belongs to one event loop, and libraries are shared")
    return found if found.reason is not None or everything or state is not None else None
