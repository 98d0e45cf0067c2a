"""Copies of what in an application belongs to one event loop, for worker threads that share all the rest.

The application is imported once: that is the copy of worker 1. For every further worker, a module that has bound names
(see `dependence`) gets a second namespace: it begins with the original's values, and the statements that make the bound
names are executed again in it (see `reexecution`).

    sys.modules["shop.db"] ── one module object ──► namespace of worker 1: engine, Base, User
                                              └───► namespace of worker 2: engine, (Base, User of worker 1)

The module object is the same for everybody, under the same name, and leads to the namespace of the worker that asks:
`import shop.db`, `shop.db.engine`, pickle, `typing.get_type_hints` find what the running code belongs to. The running
code itself has no such indirection: its globals are its namespace.

Who asks is told by a context variable, which tasks and `to_thread` inherit, and by the thread where there is none.

Owner: a copy is made under a lock, by the thread that starts the worker or, for a module that is first imported in the
middle of a request, by the worker's.
"""

import contextvars
import importlib.machinery
import importlib.util
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pounce.aio.import_hook import finders_after
from pounce.app.dependence import Graph
from pounce.app.reexecution import CannotCopy, Source, plan

logger = logging.getLogger("pounce.error")

_INSTALLED = ("site-packages", "dist-packages")
_STDLIB = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["platstdlib"])
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Original:
    """Stands for the copy of worker 1."""


_ORIGINAL = _Original()
_current: "contextvars.ContextVar[Copy | _Original | None]" = contextvars.ContextVar("pounce_copy", default=None)
_thread = threading.local()


def _asking() -> "Copy | None":
    """The copy that the running code belongs to; None for the original."""
    found = _current.get() or getattr(_thread, "copy", None)
    return found if isinstance(found, Copy) else None


@contextmanager
def _as(copy: "Copy | _Original") -> Iterator[None]:
    """What runs inside belongs to this copy."""
    token = _current.set(copy)
    try:
        yield
    finally:
        _current.reset(token)


class CopiedModule(ModuleType):
    """The class of a module object that leads to several namespaces."""

    def __getattribute__(self, name: str) -> Any:
        copy = _asking()
        if copy is not None and (bound := copy.bound_names(self)) is not None:
            namespace = copy.namespace(self)  # whatever is asked for: `import` looks at __spec__
            if name == "__dict__":
                return namespace
            if name in bound:
                try:
                    return namespace[name]
                except KeyError:
                    text = f"module {namespace.get('__name__')!r} has no attribute {name!r}"
                    raise AttributeError(text, name=name, obj=self) from None
        return _attribute(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        copy = _asking()
        if copy is not None and name in (copy.bound_names(self) or ()):
            copy.namespace(self)[name] = value
        else:
            ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        copy = _asking()
        if copy is not None and name in (copy.bound_names(self) or ()):
            copy.namespace(self).pop(name, None)
        else:
            ModuleType.__delattr__(self, name)


_attribute = ModuleType.__getattribute__


class Copy:
    """One worker's own values of the bound names."""

    def __init__(self, copies: "Copies") -> None:
        self._copies = copies
        self._namespaces: dict[ModuleType, dict[str, Any]] = {}
        self._lock = threading.RLock()

    def enter(self) -> None:
        """What runs on this thread, in this context, from here on belongs to the copy."""
        _current.set(self)
        _thread.copy = self

    def run[T](self, function: Callable[[], T]) -> T:
        """Calls a function as a part of the copy."""
        with _as(self):
            return function()

    def execute(self, first: str) -> None:
        """Executes everything again that has to be, beginning with this module. What that raises comes out."""
        with _as(self):
            for name in (first, *(source.name for source in self._copies.sources.values())):
                module = sys.modules.get(name)
                if module is not None and self.bound_names(module) is not None:
                    self.namespace(module)

    def bound_names(self, module: ModuleType) -> set[str] | None:
        """The names of a module of which the copy has its own value; None for a module that is shared whole."""
        source = self._copies.sources.get(module)
        return None if source is None else source.own

    def namespace(self, module: ModuleType) -> dict[str, Any]:
        """The copy's namespace of a module. What the module raises when it is executed again comes out."""
        found = self._namespaces.get(module)
        if found is None:
            with self._lock:
                found = self._namespaces.get(module)
                if found is None:
                    found = self._make(module)
        return found

    def _make(self, module: ModuleType) -> dict[str, Any]:
        source = self._copies.sources[module]
        original: dict[str, Any] = _attribute(module, "__dict__")
        namespace = {name: value for name, value in list(original.items()) if name not in source.own}
        self._namespaces[module] = namespace  # before it is executed: modules may import each other in a circle
        try:
            with _as(self):
                exec(source.code(), namespace)
        except BaseException:
            del self._namespaces[module]
            raise
        return namespace


class Copies:
    """Which modules of an application have copies, and what of them is executed again."""

    def __init__(self, own: "Own", application: object, *, everything: bool = False, state: object = None) -> None:
        """Raises CannotCopy. `everything`: copies all of the application's modules, whole. `state` is what the
        application's lifespan has set, and each worker's would set again."""
        self.own = own
        self._application = application
        self._everything = everything
        self._state = () if state is None else (state,)
        self.sources: dict[ModuleType, Source] = {}
        modules = own.modules()
        graph = Graph(modules, application, self._state)
        self.reason = graph.reason()
        """The loop-bound object that makes copies necessary, and the name that leads to it; None if there is none."""
        self.application_bound = graph.is_bound(graph.application)
        self.of_application = graph.holds
        if self.reason is not None or everything or self._state:
            self._take(plan(graph, modules, everything=everything))

    def _take(self, sources: dict[str, Source]) -> None:
        for source in sources.values():
            if source.own:
                if type(source.module) not in (ModuleType, CopiedModule):
                    raise CannotCopy(f"{source.name} is not an ordinary module")
                self.sources[source.module] = source

    def make(self, first: str) -> Copy:
        """A further copy; `first` is the module that the application is imported from. What the application's own
        code raises comes out."""
        for module in self.sources:
            module.__class__ = CopiedModule
        if not any(isinstance(finder, _LateFinder) and finder.copies is self for finder in sys.meta_path):
            sys.meta_path = [_LateFinder(self), *sys.meta_path]
        copy = Copy(self)
        copy.execute(first)
        return copy

    # Modules that are imported later

    def add(self, module: ModuleType) -> None:
        """A module of the application has been imported in the middle of a request, for the original."""
        modules = self.own.modules()
        graph = Graph(modules, self._application, self._state)
        graph.bind_names((source.name, name) for source in self.sources.values() for name in source.own)
        try:
            found = plan(graph, modules, everything=self._everything).get(module.__name__)
        except CannotCopy as error:
            logger.warning("%s is shared by all workers, because %s.", module.__name__, error)
            return
        if found is not None and found.own:
            self.sources = {**self.sources, module: found}
            module.__class__ = CopiedModule


class _LateFinder:
    """Stands first among the finders, and has a module of the application executed for the original, whoever imports
    it, so that the copies can be made from it."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in finders_after(self):
            if isinstance(finder, _LateFinder) or (spec := finder.find_spec(name, path, target)) is None:
                continue
            if isinstance(spec.loader, importlib.machinery.SourceFileLoader) and self.copies.own.file(spec.origin):
                spec.loader = _ForOriginal(self.copies, spec.loader)
            return spec
        return None


class _ForOriginal(importlib.machinery.SourceFileLoader):
    """A loader that executes a module for the original, and then lets the copies be made from it."""

    def __init__(self, copies: Copies, loader: importlib.machinery.SourceFileLoader) -> None:
        super().__init__(loader.name, loader.path)
        self._copies = copies

    def exec_module(self, module: ModuleType) -> None:
        with _as(_ORIGINAL):
            super().exec_module(module)
            self._copies.add(module)


class Own:
    """Tells the application's own modules from others: Python files below its folder that nobody installed there."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None:
            return name == "__main__" and self.file(getattr(sys.modules[name], "__file__", None))
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._look(spec)
        return found

    def _look(self, spec: importlib.machinery.ModuleSpec) -> bool:
        if spec.submodule_search_locations is not None and spec.origin is None:  # a namespace package
            return any(is_below(place, self._root) for place in spec.submodule_search_locations)
        return isinstance(spec.loader, importlib.machinery.SourceFileLoader) and self.file(spec.origin)

    def file(self, path: str | None) -> bool:
        return is_below(path, self._root)

    def modules(self) -> dict[str, ModuleType]:
        """Those that have been imported, in the order in which that began."""
        return {name: module for name, module in list(sys.modules.items()) if self(name)}


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    if name == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        return importlib.util.spec_from_file_location(name, file) if file else None
    found = sys.modules.get(name)
    if found is not None and found.__spec__ is not None:
        return found.__spec__
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def is_below(path: str | None, root: str) -> bool:
    """Is this file the application's own: below its folder, and nothing that was installed there?"""
    if path is None:
        return False
    file, folder = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    if not file.is_relative_to(folder) or any(part in _INSTALLED for part in file.parts):
        return False
    # The application's folder may hold the environment, or the whole machine.
    shared = (Path(place) for place in (_HERE, *_STDLIB, sys.prefix))
    return not any(place.is_relative_to(folder) and file.is_relative_to(place) for place in shared)


def root_of(module_name: str) -> str | None:
    """The folder in which the application's top-level module or package lies; None when it is not a plain file
    of its own (installed, compiled, in an archive)."""
    top = module_name.partition(".")[0]
    spec = _spec(top)
    if spec is None:
        return None
    place = next(iter(spec.submodule_search_locations or ()), spec.origin if spec.has_location else None)
    if place is None:
        return None
    root = os.path.dirname(os.path.abspath(place))
    return root if is_below(place if spec.origin is None else spec.origin, root) else None
