"""Generations of an application in one process: its own modules are imported again beside those that serve.

The first generation is imported as ever. Each further one executes the application's own files again, and shares every
library with its predecessors. How code of each generation finds its own modules is told in `generation_modules`. Both
serve until the workers of the old one have ended; then `release` lets it go.

A file counts as the application's own when it lies below the folder of the application's module, or below one of the
folders that the operator names, and was not installed there (see `modules`).

Must never leave anything changed when a generation cannot be loaded.

Owner: whoever loads, one load at a time. `release` is called by the supervisor's thread.
"""

import contextlib
import contextvars
import enum
import importlib
import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

from pounce.app import caches, running
from pounce.app.loading import ApplicationFailed, Loaded, load, without_server_frames
from pounce.app.modules import ApplicationModules, obstacle_to_second_import, root_of
from pounce.app.process_state import ProcessState
from pounce.config.config import Config

if TYPE_CHECKING:
    from pounce.app.own_files import OwnFinder  # most servers never load a second generation


class CannotReload(Exception):
    """The process cannot load another generation. The text completes "because ..."."""


class Origin(enum.Enum):
    """What this process has to do with a file."""

    OWN = "own"
    """One of the application's own modules was loaded from it, or could not be loaded from it."""
    LIBRARY = "library"
    """A module was loaded from it that this process does not load again."""
    OTHER = "other"


class LoadedGeneration:
    """An application that has been imported."""

    def __init__(
        self,
        number: int,
        loaded: Loaded,
        context: Context,
        life: running.Life,
        state: ProcessState,
        release: "Callable[[LoadedGeneration], object]",
    ) -> None:
        self.number = number
        self.loaded = loaded
        self.context = context
        """A copy of the context before the first import, with what this import has set. Workers run in copies of it."""
        self.life = life
        self.state = state
        self._release = release

    def prepare_for_next(self, modules: dict[str, Any]) -> None:
        """These are its own modules. There is to be another generation."""
        from pounce.app.generation_modules import GenerationModules

        if not isinstance(self.life, GenerationModules):
            life, self.life = self.life, GenerationModules(self.life.mark, complete=True)
            self.life.earlier, self.life.on_end = life.earlier, life.on_end
            running.begin(self.life)
        self.life.add(modules.items())

    def release(self) -> None:
        """Its last worker has ended, or could not start. Afterwards nothing of it can be reached from `sys.modules`,
        and where it was the newest generation, its predecessor is again."""
        self._release(self)
        self.context = Context()
        with contextlib.suppress(AttributeError):
            del self.loaded


class ApplicationGenerations:
    """All generations of a server's application."""

    def __init__(self, roots: Sequence[str] = ()) -> None:
        """`roots`: more folders whose files count as the application's own."""
        self._roots = tuple(roots)
        self._family = object()
        self._began = time.time_ns()
        self._before: Context | None = None
        self._count = 0
        self._alive: list[LoadedGeneration] = []
        """Those that have not been released, the oldest first."""
        self._applications: set[str] = set()
        """Names of the modules that have the application, and that made what is in `_modules`."""
        self._modules: ApplicationModules | None = None
        self._finder: OwnFinder | None = None
        self._lock = threading.Lock()

    # Loading

    def first(self, config: Config) -> LoadedGeneration:
        """Imports the application in the ordinary way. Raises StartupError."""
        self._before, state = contextvars.copy_context(), ProcessState()
        loaded = load(config)
        state.loaded()
        life = running.Life(running.Mark(self._family), complete=True)
        running.begin(life)
        self._own_modules(config)
        return self._add(loaded, contextvars.copy_context(), life, state)

    def next(self, config: Config) -> LoadedGeneration:
        """Imports the application's own modules again, beside those that serve. Any thread may call it. Raises
        StartupError, or CannotReload; then everything is as it was before."""
        with self._lock:
            if why := self.obstacle(config):
                raise CannotReload(why)
            modules = self._own_modules(config)
            assert modules is not None  # or there is an obstacle
            return self._next(config, modules)

    def _next(self, config: Config, modules: ApplicationModules) -> LoadedGeneration:
        from pounce.app.generation_modules import GenerationModules

        importlib.invalidate_caches()
        self._installed_finder(modules)
        own = {name: module for name, module in list(sys.modules.items()) if _is_own(modules, name, module)}
        context = self._before.copy() if self._before is not None else Context()
        life, state = GenerationModules(running.Mark(self._family)), ProcessState()
        if config.workers not in (None, 1) and config.app_copies != "one":
            life.earlier.record()
        running.set_in(context, life.mark)
        with running.lock:
            before = self._alive[-1] if self._alive else None
            if before is not None:
                before.prepare_for_next(own)
                if thread := before.state.started_thread(before.life.namespaces()):
                    raise CannotReload(f"its import has started the thread {thread!r}, which cannot be ended")
                state.set_aside(before.life.namespaces())
            life.begin({*own, *(before.life.names if before is not None else ())})
        try:
            loaded = context.run(_load_again, config)
        except BaseException:
            namespaces = life.namespaces()
            life.end()
            state.failed(namespaces)
            raise
        life.complete = True
        state.loaded(before.state if before is not None else None)
        return self._add(loaded, context, life, state)

    def _add(self, loaded: Loaded, context: Context, life: running.Life, state: ProcessState) -> LoadedGeneration:
        running.set_in(context, life.mark)
        self._count += 1
        generation = LoadedGeneration(self._count, loaded, context, life, state, self._release)
        self._alive.append(generation)
        return generation

    def _release(self, generation: LoadedGeneration) -> None:
        with running.lock:
            if generation not in self._alive:
                return
            others, newest = len(self._alive) > 1, generation is self._alive[-1]
            self._alive.remove(generation)
            namespaces = generation.life.namespaces()
            generation.state.ended(namespaces, newest=newest and others)
            generation.life.end()
        if others:
            caches.clear(namespaces)
        elif self._finder is not None:  # the server ends
            self._finder.remove()

    # Which files

    def _installed_finder(self, modules: ApplicationModules) -> "OwnFinder":
        if self._finder is None:
            from pounce.app.own_files import OwnFinder

            self._finder = OwnFinder(modules, self._family, self._began)
        self._finder.install()
        return self._finder

    def _own_modules(self, config: Config) -> ApplicationModules | None:
        """None where the application is not made of Python files of its own."""
        if (
            isinstance(config.app, str)
            and (name := _module_name(config)) not in self._applications
            and (root := root_of(name)) is not None
        ):  # the first one, or another that the configuration names now
            self._applications.add(name)
            self._roots = tuple(dict.fromkeys((root, *self._roots)))
            self._modules = ApplicationModules(*self._roots)
            if self._finder is not None:
                self._finder.modules = self._modules
        return self._modules

    def obstacle(self, config: Config) -> str:
        """Why this process cannot load another generation; empty if it can. Completes "because ..."."""
        app = config.app
        if isinstance(app, str) and _module_name(config) == "__main__":
            return "it is in the program itself, which cannot be executed twice"
        return obstacle_to_second_import(app, isinstance(app, str) and self._own_modules(config) is not None) or ""

    def origin(self, path: str, config: Config) -> Origin:
        """What a changed file is to this process. `path` is a real path."""
        name, found = os.path.basename(path), Origin.OTHER
        modules = self._own_modules(config) if not self.obstacle(config) else None

        def is_it(file: object) -> bool:
            return isinstance(file, str) and os.path.basename(file) == name and os.path.realpath(file) == path

        if self._finder is not None and any(map(is_it, self._finder.imported_files)):
            return Origin.OWN
        for module_name, module in list(sys.modules.items()):
            if is_it(getattr(module, "__file__", None)):
                if modules is not None and _is_own(modules, module_name, module):
                    return Origin.OWN
                found = Origin.LIBRARY
        return found


def _is_own(modules: ApplicationModules, name: str, module: object) -> bool:
    spec = getattr(module, "__spec__", None)
    return name != "__main__" and isinstance(spec, importlib.machinery.ModuleSpec) and modules.contains_spec(spec)


def _module_name(config: Config) -> str:
    return str(config.app).partition(":")[0]


def _load_again(config: Config) -> Loaded:
    try:
        return load(config)
    except SystemExit as error:
        raise ApplicationFailed("Error loading ASGI app. It has exited:") from without_server_frames(error)
