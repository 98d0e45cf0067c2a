"""Generations of an application in one process: its own modules are imported again, beside those that run. Libraries
are shared.

The problem. `sys.modules` has one module of each name, and for a while two generations live: the old one answers its
last requests. Its code mostly does not notice, because a function's globals are its module's own namespace. But it may
look a module up by its name: by an import statement in a function, `importlib.import_module`, pickle, or
`typing.get_type_hints`. It must find its own.

The solution. The modules of the newest generation are in `sys.modules`. While an older generation lives they are of the
class `GenerationModule`, which leads to the namespace of the generation that the running code belongs to, as in
`copies`. Running code is told by a context variable, which tasks and `to_thread` inherit; code of no known generation
gets the newest. When the older generation has ended, they are ordinary modules again.

A compiled file (.pyc) knows the time of its source in whole seconds. Of two edits within a second it would give the
first. So a file that has changed since the server started is compiled here, and kept by its exact time and size.

Must never leave a name of the application missing in `sys.modules` for longer than its import takes: other threads look
it up meanwhile. What happens then is that such a thread imports the new module itself, and finds its own behind it.

Owner: whichever thread loads, one at a time; `release` is called by the supervisor's.
"""

import contextlib
import enum
import importlib
import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextvars import Context, copy_context
from itertools import dropwhile, islice
from types import CodeType, ModuleType
from typing import Any

from pounce.app import caches
from pounce.app.copies import CopiedModule, copied_modules, forget_copies
from pounce.app.current import current_generation
from pounce.app.loading import Loaded, load
from pounce.app.modules import ApplicationModules, root_of
from pounce.config.config import Config


class CannotReload(Exception):
    """The application cannot be loaded twice in one process. The text completes "... because ..."."""


class Origin(enum.Enum):
    """What this process has to do with a file."""

    OWN = "own"
    """A module of the application's own was imported from it."""
    LIBRARY = "library"
    """A module of a library, or one that is compiled, was imported from it."""
    OTHER = "other"


class LoadedGeneration:
    """One import of the application."""

    def __init__(self, generations: "ApplicationGenerations", number: int) -> None:
        self.number = number
        self.modules: dict[str, ModuleType] = {}
        """Its own modules."""
        self.loaded: Loaded
        self.context: Context
        """What its workers run in: the one before the first import, and the variables that this import has set."""
        self.finder: object = None
        """Its place in `sys.meta_path`."""
        self._generations = generations

    def release(self) -> None:
        """Its last worker has ended, or it has never had one."""
        self._generations._release(self)


_attribute = ModuleType.__getattribute__
_owners: dict[ModuleType, LoadedGeneration] = {}
"""The generation of each module of the class below."""


class GenerationModule(CopiedModule):
    """The class of the newest generation's modules while an older one lives."""

    def __getattribute__(self, name: str) -> Any:
        other = _own_module(self)
        return CopiedModule.__getattribute__(self, name) if other is None else getattr(other, name)

    def __setattr__(self, name: str, value: object) -> None:
        other = _own_module(self)
        if other is None:
            CopiedModule.__setattr__(self, name, value)
        else:
            setattr(other, name, value)

    def __delattr__(self, name: str) -> None:
        other = _own_module(self)
        if other is None:
            CopiedModule.__delattr__(self, name)
        else:
            delattr(other, name)


def _own_module(module: ModuleType) -> ModuleType | None:
    """The module of the running code's generation; None if it is this one."""
    running = current_generation.get()
    if not isinstance(running, LoadedGeneration) or running is _owners.get(module, running):
        return None
    found = running.modules.get(_attribute(module, "__name__"))
    return None if found is module else found


class ApplicationGenerations:
    """The generations of one application in this process."""

    def __init__(self, roots: Sequence[str] = ()) -> None:
        """`roots`: folders whose files count as the application's own, besides the folder of its module."""
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._began = time.time_ns()
        self._base = copy_context()
        self._alive: list[LoadedGeneration] = []
        """The newest last."""
        self._count = 0
        self._codes: dict[str, tuple[tuple[int, int], CodeType]] = {}
        """Compiled code of files, with their time in nanoseconds and size."""
        self._lock = threading.RLock()  # a release may come while the next generation is loaded

    def first(self, config: Config) -> LoadedGeneration:
        """Imports the application. Raises StartupError."""
        generation = self._new()
        generation.context = copy_context()
        generation.context.run(current_generation.set, generation)
        generation.loaded = generation.context.run(load, config)
        self._alive.append(generation)
        return generation

    def _new(self) -> LoadedGeneration:
        self._count += 1
        return LoadedGeneration(self, self._count)

    def obstacle(self, config: Config) -> str:
        """Why the application cannot be loaded again in this process; empty if it can."""
        if not isinstance(config.app, str):
            return "the application was handed over as an object, not as an import string"
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        if getattr(settings, "configured", False):
            return "Django keeps one register of an application's URLs and models"
        module = config.app.partition(":")[0]
        if module == "__main__" or root_of(module) is None:
            return "the application is not made of Python files of its own"
        return ""

    def next(self, config: Config) -> LoadedGeneration:
        """Imports the application's own modules again. Raises StartupError, and CannotReload where there is an
        `obstacle`; then all is as it was before."""
        if why := self.obstacle(config):
            raise CannotReload(why)
        with self._lock:
            generation = self._new()
            modules = self._modules(config)
            before = modules.imported()
            if self._alive:
                self._alive[-1].modules = dict(before)  # with those that were imported since it was loaded
            generation.context = self._base.copy()
            generation.context.run(current_generation.set, generation)
            generation.finder = _Finder(self, generation, modules)
            importlib.invalidate_caches()
            sys.meta_path = [generation.finder, *sys.meta_path]
            try:
                for name in before:
                    sys.modules.pop(name, None)
                generation.loaded = generation.context.run(load, config)
            except BaseException:
                self._put_back(modules, before)
                self._forget(generation)
                raise
            generation.modules = modules.imported()
            self._alive.append(generation)
            return generation

    def _modules(self, config: Config) -> ApplicationModules:
        return ApplicationModules(root_of(config.app.partition(":")[0]) or "/", *self._roots)

    def _put_back(self, modules: ApplicationModules, before: dict[str, ModuleType]) -> None:
        for name in modules.imported():
            if name not in before:
                sys.modules.pop(name, None)
        sys.modules.update(before)
        for name, module in before.items():
            parent, _, child = name.rpartition(".")
            if parent and (package := sys.modules.get(parent)) is not None:
                setattr(package, child, module)

    def _release(self, generation: LoadedGeneration) -> None:
        with self._lock:
            if len(self._alive) > 1:  # else the server ends
                caches.clear(generation.modules.values())
            if generation in self._alive:
                newest = generation is self._alive[-1]
                self._alive.remove(generation)
                if newest and self._alive:
                    self._restore(generation, self._alive[-1])
            if len(self._alive) == 1:
                self._settle(self._alive[0])
            self._forget(generation)
            generation.context = Context()
            with contextlib.suppress(AttributeError):
                del generation.loaded

    def _forget(self, generation: LoadedGeneration) -> None:
        sys.meta_path = [finder for finder in sys.meta_path if finder is not generation.finder]
        for module in [module for module, owner in _owners.items() if owner is generation]:
            del _owners[module]
        forget_copies(generation)
        generation.modules = {}

    def _restore(self, generation: LoadedGeneration, older: LoadedGeneration) -> None:
        """The newest generation has failed: the one before it is the newest again."""
        for name, module in generation.modules.items():
            if sys.modules.get(name) is module and name not in older.modules:
                del sys.modules[name]
        sys.modules.update(older.modules)

    def _settle(self, generation: LoadedGeneration) -> None:
        """It is the only one, and its modules need not ask which."""
        for module in [module for module, owner in _owners.items() if owner is generation]:
            del _owners[module]
            module.__class__ = CopiedModule if module in copied_modules else ModuleType

    def origin(self, path: str, config: Config) -> Origin:
        """What a changed file is to this process. `path` is a real path."""
        modules = self._modules(config) if not self.obstacle(config) else None
        found = Origin.OTHER
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and os.path.realpath(file) == path:
                if modules is None or not modules.contains(name):
                    return Origin.LIBRARY
                found = Origin.OWN
        return found

    # Code

    def code(self, loader: importlib.machinery.SourceFileLoader, name: str) -> CodeType:
        """The code of an own module's file as it is now. Raises what compiling it raises."""
        path = loader.path
        found = os.stat(path)
        key = found.st_mtime_ns, found.st_size
        known = self._codes.get(path)
        if known is not None and known[0] == key:
            return known[1]
        if found.st_mtime_ns < self._began - UNCHANGED_BEFORE:
            code: Any = importlib.machinery.SourceFileLoader.get_code(loader, name)
        else:
            code = loader.source_to_code(loader.get_data(path), path)
        self._codes[path] = key, code
        return code  # type: ignore[no-any-return]


UNCHANGED_BEFORE = 2_000_000_000
"""Nanoseconds before the server's start: a file that is older is as it was when its compiled file was made."""


class _Finder:
    """The first of the import system's finders, for a generation that is not the server's first."""

    def __init__(
        self, generations: ApplicationGenerations, generation: LoadedGeneration, modules: ApplicationModules
    ) -> None:
        self._generations = generations
        self._generation = generation
        self._modules = modules

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in islice(dropwhile(lambda each: each is not self, sys.meta_path), 1, None):
            if (spec := finder.find_spec(name, path, target)) is None:
                continue
            loader = spec.loader
            if isinstance(loader, importlib.machinery.SourceFileLoader) and self._modules.contains_file(spec.origin):
                spec.loader = _Loader(self._generations, self._generation, loader)
            return spec
        return None


class _Loader(importlib.machinery.SourceFileLoader):
    """Executes a module as a part of its generation, on whichever thread imports it."""

    def __init__(
        self, generations: ApplicationGenerations, generation: LoadedGeneration,
        loader: importlib.machinery.SourceFileLoader,
    ) -> None:  # fmt: skip
        super().__init__(loader.name, loader.path)
        self._generations = generations
        self._generation = generation

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = GenerationModule(spec.name)
        _owners[module] = self._generation
        return module

    def get_code(self, fullname: str) -> CodeType:
        return self._generations.code(self, fullname)

    def exec_module(self, module: ModuleType) -> None:
        token = current_generation.set(self._generation)
        try:
            exec(self.get_code(module.__name__), _attribute(module, "__dict__"))
        finally:
            current_generation.reset(token)
