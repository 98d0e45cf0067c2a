"""The application's own modules, with a module object of its own for each generation that is alive.

The problem. `sys.modules` has one entry for each name. A new generation is imported while the old one serves, and code
of both looks modules up by name all the time: an import inside a function, pickle, `typing.get_type_hints`, a plug-in.
Each must find its own. No lookup of a module that is there may fail meanwhile: other threads run.

The solution. Each generation has a module object of its own for each name. While there are several generations,
`sys.modules` has the newest one's, whose class leads every access to the module object of the generation that the
running code belongs to (see `running`):

    sys.modules["shop.db"] ── new module object ──► code of the new generation: its own namespace
                                              └───► code of the old generation: the old module object

So an entry is only ever replaced, never missing. To the generation that is being loaded, an entry that it has not
imported yet looks like an empty module whose spec is `Unloaded`. The import system asks the spec of every module that
it finds whether the module is still being initialized. That question loads it.

When only one generation is left, its module objects are ordinary ones again, and cost nothing.

Must never let code of one generation see a name of another one. Owner: a generation is loaded by one thread; other
threads may import modules of it then and later, under the import system's lock for that module.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import weakref
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pounce.app import running
from pounce.app.copies import CopiedModule
from pounce.app.loading import AttributeErrorInside

_attribute = ModuleType.__getattribute__


def _namespace(module: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = _attribute(module, "__dict__")
    return found


class Unloaded(ModuleSpec):
    """The spec of a module that a generation has not imported yet."""

    def __init__(self, name: str, generation: "GenerationModules") -> None:
        super().__init__(name, None)
        self.loader_state = generation.mark
        self._generation = weakref.ref(generation)

    @property
    def _initializing(self) -> bool:
        """Asked by the import system alone."""
        self.load()
        return False

    def load(self) -> None:
        """Raises what the module's code raises."""
        generation = self._generation()
        if generation is not None:
            try:
                generation.load(self.name)
            except AttributeError as error:  # the import system would take it for an answer
                raise AttributeErrorInside(error) from None


def _is_loaded(module: object) -> bool:
    return not isinstance(module, ModuleType) or type(_namespace(module).get("__spec__")) is not Unloaded


def _target(module: ModuleType) -> Any:
    """The object that the running code means by this module."""
    namespace = _namespace(module)
    spec = namespace.get("__spec__")
    mark = running.mark_of(spec)
    if mark is None:
        return module
    name = spec.name  # type: ignore[union-attr]  # it has a mark
    while isinstance(generation := running.generation(mark.family), GenerationModules):
        if (found := generation.module(name)) is not None:
            return found
    return module


class GenerationModule(ModuleType):
    """The class of a module object that leads to the version of the running code's generation."""

    copied_class: type[CopiedModule]

    def __getattribute__(self, name: str) -> Any:
        target = _target(self)
        if target is not self:
            return getattr(target, name) if type(target) not in _CLASSES else _own_attribute(target, name)
        return _own_attribute(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        target = _target(self)
        setattr(target, name, value) if target is not self else super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        target = _target(self)
        delattr(target, name) if target is not self else super().__delattr__(name)


class CopiedGenerationModule(CopiedModule):
    """The same for a module of which workers have copies."""

    __getattribute__ = GenerationModule.__getattribute__

    def __setattr__(self, name: str, value: object) -> None:
        target = _target(self)
        setattr(target, name, value) if target is not self else super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        target = _target(self)
        delattr(target, name) if target is not self else super().__delattr__(name)


_CLASSES: dict[type, type[ModuleType]] = {GenerationModule: ModuleType, CopiedGenerationModule: CopiedModule}
"""Each with the class that a module object has when one generation is left."""
GenerationModule.copied_class = CopiedGenerationModule.copied_class = CopiedGenerationModule


def _own_attribute(module: ModuleType, name: str) -> Any:
    spec = _namespace(module).get("__spec__")
    if name == "__path__" and type(spec) is Unloaded:
        # The import system is about to import a submodule of it, and takes it for imported already: it is in
        # `sys.modules`. Of a package that it finds in this way it does not ask the spec.
        spec.load()
        if (target := _target(module)) is not module:
            return getattr(target, name)
    if not _is_loaded(module):
        return object.__getattribute__(module, name)  # a module's own way would ask the spec, which would load it
    # Not `isinstance`: it would ask for the module's `__class__`, and so come here again.
    kind = CopiedModule if issubclass(type(module), CopiedModule) else ModuleType
    return kind.__getattribute__(module, name)


class GenerationModules(running.Life):
    """The module objects of one generation, by name."""

    def __init__(self, mark: running.Mark, *, complete: bool = False) -> None:
        super().__init__(mark, complete=complete)
        self._failed: list[Any] = []  # modules that could not be executed
        self._ended = False
        self._loading: set[str] = set()
        self._entries: dict[str, Any] = {}  # what `sys.modules` has while this generation is the newest
        self._modules: dict[str, Any] = {}  # what they lead to: another object where a module has replaced itself

    def add(self, modules: Iterable[tuple[str, Any]]) -> None:
        """These modules are this generation's. It has imported them in the ordinary way."""
        for name, module in modules:
            if type(module) in _CLASSES or name in self._modules:
                continue
            spec = getattr(module, "__spec__", None)
            if isinstance(spec, ModuleSpec) and spec.loader_state is None:
                spec.loader_state = self.mark
            self._entries[name] = self._modules[name] = module

    def module(self, name: str) -> Any:
        """The module of this name, which has been loaded or can be. None if the generation has ended."""
        found = self._modules.get(name)
        return self._unloaded(name) if found is None else found

    def _unloaded(self, name: str) -> ModuleType | None:
        module = GenerationModule(name)
        _namespace(module)["__spec__"] = Unloaded(name, self)
        with running.lock:
            if self._ended:
                return None
            found: ModuleType = self._modules.setdefault(name, module)
            if found is module:
                self._entries[name] = module
        return found

    def namespaces(self) -> list[dict[str, Any]]:
        modules = [*self._modules.values(), *self._failed]
        return [_namespace(each) for each in modules if isinstance(each, ModuleType)]

    def has(self, name: str) -> bool:
        """Has the module been loaded, or is it being loaded?"""
        return name in self._modules and _is_loaded(self._modules[name])

    @property
    def names(self) -> list[str]:  # type: ignore[override]
        return list(self._modules)

    # Its life

    def begin(self, names: Iterable[str]) -> None:
        """It is to be loaded: its code will find none of these modules, and import them."""
        for name in names:
            self._unloaded(name)
        running.begin(self)
        settle(self.mark.family)

    def end(self) -> None:
        """The names that only it had are gone."""
        with running.lock:
            self._ended = True
            super().end()
            names = self.names
            self._modules.clear()
            self._failed.clear()
            self._entries.clear()
            settle(self.mark.family, names)

    # Loading

    def load(self, name: str) -> None:
        """Imports a module that is not loaded. Raises what its code raises."""
        bootstrap: Any = importlib._bootstrap
        # The import system's own lock: whoever finds the module half loaded waits for it.
        lock = bootstrap._get_module_lock(name)
        try:
            lock.acquire()
        except bootstrap._DeadlockError:
            # Modules import each other, on two threads. Those of one generation are seen half loaded, as ever. A module
            # that the other thread loads for another generation is not this one.
            self._load(name)
            return
        try:
            self._load(name)
        finally:
            lock.release()

    def _load(self, name: str) -> None:
        with running.entered(self.mark):
            if name not in self._modules:  # the name was given up meanwhile, because no generation had loaded it
                found = importlib.import_module(name)
                self._modules.setdefault(name, found)
                self._entries.setdefault(name, found)
                return
            parent, _, child = name.rpartition(".")
            path = _path_of(importlib.import_module(parent), name) if parent else None
            with running.lock:
                if self.has(name) or name in self._loading:  # its package has imported it
                    return
                self._loading.add(name)
            try:
                spec = find_spec(name, path)
                if spec is None:
                    raise _missing(name)
                module = self._execute(spec)
            finally:
                self._loading.discard(name)
            if parent:
                setattr(sys.modules[parent], child, module)

    def _execute(self, spec: ModuleSpec) -> Any:
        name, loader = spec.name, spec.loader
        spec.loader_state = self.mark
        setattr(spec, "_initializing", True)  # noqa: B010 - as the import system does
        try:
            module = importlib.util.module_from_spec(spec)
            entry = self._entries[name]
            if module is not entry:  # a package without a file of its own, or a loader of another kind
                if type(module) is ModuleType:
                    _namespace(entry).update(_namespace(module))
                    module = entry
                else:
                    self._modules[name] = module
            self._attach_libraries(name, module)
            if loader is not None:
                loader.exec_module(module)
        except BaseException:
            self.forget(name)
            raise
        finally:
            setattr(spec, "_initializing", False)  # noqa: B010
        return self.loaded(name)

    def _attach_libraries(self, name: str, module: Any) -> None:
        """A package knows its submodules as attributes. Those that are not imported again it has from the beginning."""
        for below, other in list(sys.modules.items()):
            parent, _, child = below.rpartition(".")
            if parent == name and type(other) not in _CLASSES and below not in self._modules:
                _namespace(module)[child] = other

    def create(self, name: str) -> ModuleType | None:
        """The module object for an import that the import system makes itself."""
        if self.has(name):
            return None
        return self._modules.get(name) or self._unloaded(name)

    def loaded(self, name: str) -> Any:
        """A module has been executed. Returns it."""
        entry, found = self._entries.get(name), sys.modules.get(name)
        if found is not None and found is not entry and type(found) not in _CLASSES:
            self._modules[name] = found  # it has replaced itself
            if entry is not None:
                sys.modules[name] = entry
        return entry if entry is not None else found

    def forget(self, name: str) -> None:
        """A module could not be executed."""
        with running.lock:
            entry = self._entries.pop(name, None)
            self._failed.append(self._modules.pop(name, None))
            if sys.modules.get(name) is entry and entry is not None:
                unloaded = self._unloaded(name)
                if unloaded is not None:
                    sys.modules[name] = unloaded


def _path_of(package: Any, name: str) -> Sequence[str]:
    path: Sequence[str] | None = getattr(package, "__path__", None)
    if path is None:
        raise ModuleNotFoundError(f"No module named {name!r}; {package.__name__!r} is not a package", name=name)
    return path


def find_spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path, None)
        if spec is not None:
            return spec
    return None


def _missing(name: str) -> ImportError:
    """The error for a module that a generation does not have. `from package import name` would go on after the usual
    one, and find the name in `sys.modules`, where another generation needs it."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "_handle_fromlist":
        if frame.f_globals.get("__name__") not in (__name__, "importlib._bootstrap"):
            return ModuleNotFoundError(f"No module named {name!r}", name=name)
        frame = frame.f_back  # type: ignore[assignment]
    parent, _, child = name.rpartition(".")
    package = sys.modules[parent]
    file = getattr(package, "__file__", None)
    return ImportError(
        f"cannot import name {child!r} from {parent!r} ({file or 'unknown location'})", name=parent, path=file
    )


def settle(family: object, names: Iterable[str] = ()) -> None:
    """Gives `sys.modules` the entries of the newest generation. `names`: those of one that has ended. A name that no
    generation has loaded goes. Where one generation is left, its modules become ordinary ones."""
    with running.lock:
        alive = [each for each in running.living(family) if isinstance(each, GenerationModules)]
        for name in {*names, *(name for generation in alive for name in generation.names)}:
            if not any(generation.has(name) for generation in alive):
                if type(sys.modules.get(name)) in _CLASSES:
                    del sys.modules[name]
                for generation in alive:
                    generation._modules.pop(name, None)
                    generation._entries.pop(name, None)
                continue
            newest = alive[-1]
            if len(alive) > 1:
                newest.module(name)
                entry = newest._entries[name]
            else:
                entry = newest._modules[name]
                _make_ordinary(entry)
            if sys.modules.get(name) is not entry:
                sys.modules[name] = entry


def _make_ordinary(module: Any) -> None:
    ordinary = _CLASSES.get(type(module))
    if ordinary is not None:
        module.__class__ = ordinary
