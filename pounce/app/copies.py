"""Copies of an application, for worker threads that cannot share all of it.

The problem. Worker threads share one application, which is imported once. But an object such as an `asyncio.Lock` or a
pool of database connections belongs to one event loop, and each worker has its own. So each worker needs its own lock,
and everything that holds it or uses it must be its own as well: the function that awaits it, the router that holds the
function, the application that holds the router. The rest must not be duplicated: a second class for the same database
table, a second metric of the same name, a second register of plugins are errors in most libraries.

The solution, in three steps, each in a file of its own:

1. `dependencies` finds the names of the application's modules that lead to a loop-bound object: the *bound* names.
2. `reexecution` selects the statements that assign those names, and what must be executed again with them.
3. This module gives each further worker a namespace of its own for every module that has a bound name. The namespace
   begins with the original's values, and the selected statements are executed again in it.

    sys.modules["shop.db"] ── one module object ──► namespace of worker 1: engine, Base, User
                                              └───► namespace of worker 2: engine, (Base, User of worker 1)

The import of worker 1 is the original; a `Copy` is made for each further worker. The module object is the same for all
of them, under the same name, and leads to the namespace of the copy that the running code belongs to. So `import
shop.db`, `shop.db.engine`, pickle and `typing.get_type_hints` find the values of that copy. Running code does not pay
for this: the globals of a function are its namespace.

The running code's copy is found in a context variable, which tasks and `to_thread` inherit, or else by the thread.

Must never execute anything of the application again that is not selected, nor change a name of the original.

Owner: a copy is made under a lock, by the thread that starts the worker or, for a module that is first imported during
a request, by the worker's thread.
"""

import contextvars
import importlib.machinery
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import dropwhile, islice
from types import ModuleType
from typing import Any

from pounce.app import running
from pounce.app.dependencies import DependencyGraph
from pounce.app.modules import ApplicationModules
from pounce.app.reexecution import CannotCopy, Source, select_statements

logger = logging.getLogger("pounce.error")


class _Original:
    """Stands for the copy of worker 1."""


_ORIGINAL = _Original()
_current: "contextvars.ContextVar[Copy | _Original | None]" = contextvars.ContextVar("pounce_copy", default=None)
_thread = threading.local()


def _current_copy() -> "Copy | None":
    """The copy that the running code belongs to; None for the original."""
    found = _current.get() or getattr(_thread, "copy", None)
    return found if isinstance(found, Copy) else None


@contextmanager
def _entered(copy: "Copy | _Original") -> Iterator[None]:
    """Code that runs inside belongs to this copy."""
    token = _current.set(copy)
    try:
        yield
    finally:
        _current.reset(token)


class CopiedModule(ModuleType):
    """The class of a module object that leads to several namespaces."""

    copied_class: "type[ModuleType]"

    def __getattribute__(self, name: str) -> Any:
        copy = _current_copy()
        if copy is not None and (bound := copy.bound_names(self)) is not None:
            namespace = copy.namespace(self)  # for any name: `import` reads __spec__ first
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
        copy = _current_copy()
        if copy is not None and name in (copy.bound_names(self) or ()):
            copy.namespace(self)[name] = value
        else:
            ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        copy = _current_copy()
        if copy is not None and name in (copy.bound_names(self) or ()):
            copy.namespace(self).pop(name, None)
        else:
            ModuleType.__delattr__(self, name)


_attribute = ModuleType.__getattribute__
CopiedModule.copied_class = CopiedModule


def _copied_class(module: object) -> type[ModuleType] | None:
    """The class that a module object has when there are copies of it; None where there can be none."""
    kind = type(module)
    return CopiedModule if kind is ModuleType else getattr(kind, "copied_class", None)


class Copy:
    """One worker's own values of the bound names."""

    def __init__(self, copies: "Copies") -> None:
        self._copies = copies
        self._namespaces: dict[ModuleType, dict[str, Any]] = {}
        self._lock = threading.RLock()

    def clear(self) -> None:
        """The copy's workers have ended."""
        self._namespaces.clear()

    def enter(self) -> None:
        """Code that runs on this thread, or in this context, belongs to the copy from now on."""
        _current.set(self)
        _thread.copy = self

    def run[T](self, function: Callable[[], T]) -> T:
        """Calls a function as a part of the copy."""
        with _entered(self):
            return function()

    def execute(self, first: str) -> None:
        """Executes all selected statements again, beginning with this module. Raises what they raise."""
        with _entered(self):
            for name in (first, *(source.name for source in self._copies.sources.values())):
                module = sys.modules.get(name)
                if module is not None and self.bound_names(module) is not None:
                    self.namespace(module)

    def bound_names(self, module: ModuleType) -> set[str] | None:
        """The names of a module of which the copy has its own value; None for a module that is shared as a whole."""
        source = self._copies.sources.get(module)
        return None if source is None else source.copied_names

    def namespace(self, module: ModuleType) -> dict[str, Any]:
        """The copy's namespace of a module. Raises what the module's statements raise."""
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
        namespace = {name: value for name, value in list(original.items()) if name not in source.copied_names}
        self._namespaces[module] = namespace  # before it is executed: modules may import each other in a circle
        try:
            with _entered(self):
                exec(source.code(), namespace)
        except BaseException:
            del self._namespaces[module]
            raise
        return namespace


class Copies:
    """Which modules of an application have copies, and what of them is executed again."""

    def __init__(
        self,
        modules: ApplicationModules,
        application: object,
        *,
        everything: bool = False,
        state: object = None,
        earlier: Container[object] = (),
    ) -> None:
        """`everything`: copies all of the application's modules, whole. `state`: what the application's lifespan has
        set, and each worker's lifespan would set again. `earlier`: objects that belong to another generation. Raises
        CannotCopy."""
        self.modules = modules
        self._application = application
        self._everything = everything
        self._state = () if state is None else (state,)
        self._mark = running.mark()
        self._made: weakref.WeakSet[Copy] = weakref.WeakSet()
        self.sources: dict[ModuleType, Source] = {}
        imported = modules.imported()
        graph = DependencyGraph(imported, application, self._state, earlier)
        self.reason = graph.reason()
        """The loop-bound object that makes copies necessary, and the name that leads to it; None if there is none."""
        self.application_bound = graph.is_bound(graph.application)
        self.belongs_to_application = graph.contains
        if self.reason is not None or everything or self._state:
            self._set_sources(select_statements(graph, imported, everything=everything))

    def _set_sources(self, sources: dict[str, Source]) -> None:
        for source in sources.values():
            if source.copied_names:
                if _copied_class(source.module) is None:
                    raise CannotCopy(f"{source.name} is not an ordinary module")
                self.sources[source.module] = source

    def make(self, first: str) -> Copy:
        """A further copy; `first` is the module that the application is imported from. Raises what the application's
        own code raises."""
        for module in self.sources:
            _make_copied(module)
        if not any(isinstance(finder, _CopyingFinder) and finder.copies is self for finder in sys.meta_path):
            sys.meta_path = [_CopyingFinder(self), *sys.meta_path]
        copy = Copy(self)
        self._made.add(copy)
        copy.execute(first)
        return copy

    def are_running(self) -> bool:
        """Does the running code belong to the generation that is copied?"""
        return self._mark is None or running.mark() is self._mark

    def close(self) -> None:
        """The workers of all copies have ended."""
        sys.meta_path = [
            finder for finder in sys.meta_path if not (isinstance(finder, _CopyingFinder) and finder.copies is self)
        ]
        for copy in list(self._made):
            copy.clear()

    # Modules that are imported later

    def add(self, module: ModuleType) -> None:
        """A module of the application has been imported during a request, for the original."""
        imported = self.modules.imported()
        graph = DependencyGraph(imported, self._application, self._state)
        graph.bind_names((source.name, name) for source in self.sources.values() for name in source.copied_names)
        try:
            found = select_statements(graph, imported, everything=self._everything).get(module.__name__)
        except CannotCopy as error:
            logger.warning("%s is shared by all workers, because %s.", module.__name__, error)
            return
        if found is not None and found.copied_names:
            self.sources = {**self.sources, module: found}
            _make_copied(module)


def _make_copied(module: ModuleType) -> None:
    with running.lock:
        module.__class__ = _copied_class(module)  # type: ignore[assignment]


class _CopyingFinder:
    """The first of the import system's finders. Has a module of the application executed for the original, whichever
    copy imports it, so that copies can be made from it."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.copies.are_running():
            return None
        # Asks only the finders behind it. One before it that asks others as well would ask this one again, without end.
        for finder in islice(dropwhile(lambda each: each is not self, sys.meta_path), 1, None):
            if isinstance(finder, _CopyingFinder) or (spec := finder.find_spec(name, path, target)) is None:
                continue
            loader, modules = spec.loader, self.copies.modules
            if isinstance(loader, importlib.machinery.SourceFileLoader) and modules.contains_file(spec.origin):
                spec.loader = _OriginalLoader(self.copies, loader)
            return spec
        return None


class _OriginalLoader(importlib.machinery.SourceFileLoader):
    """A loader that executes a module for the original, and then lets the copies be made from it."""

    def __init__(self, copies: Copies, loader: importlib.machinery.SourceFileLoader) -> None:
        super().__init__(loader.name, loader.path)
        self._copies = copies
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def get_source(self, fullname: str) -> str | None:
        return self._loader.get_source(fullname)

    def exec_module(self, module: ModuleType) -> None:
        with _entered(_ORIGINAL):
            self._loader.exec_module(module)
            self._copies.add(module)
