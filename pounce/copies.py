"""A copy of the application's own modules for a worker, in the same interpreter, with all libraries shared.

An object that belongs to one event loop cannot serve several worker threads; the module that made it can be
executed again for each of them. The copy of `shop.main` for worker 2 is a module of its own, `shop.main@2`, in
sys.modules like any other, so that whatever looks a class up by its module's name (dataclasses, pydantic,
typing.get_type_hints, pickle) finds it. Its code is the same code, with the same file names and lines.

What is copied: the application's module and every module below the same folder, when a copied module first
imports it. What is not: the standard library, what is installed (below site-packages or the environment), pounce,
and extension modules. How: a copied module has builtins of its own, whose `__import__` knows the copy.
`importlib.import_module` is made to ask which copy its caller belongs to.

Owner: the copy's table is filled under a lock, since a copy's functions may import on helper threads.
"""

import builtins
import contextvars
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

_INSTALLED = ("site-packages", "dist-packages")
_STDLIB = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["platstdlib"])
_HERE = os.path.dirname(os.path.abspath(__file__))

# Which copy the running code belongs to, for imports that come through a library.
_current: "contextvars.ContextVar[ModuleCopy | None]" = contextvars.ContextVar("pounce_copy", default=None)
_import_module = importlib.import_module

one_at_a_time = threading.Lock()
"""Held while an application is executed again: libraries keep registers that were not made for two at once."""


class ModuleCopy:
    """The application's own modules, once more."""

    def __init__(self, number: int, root: str) -> None:
        self.number = number
        """Two or more: the first is the original."""
        self._root = root
        self._modules: dict[str, ModuleType] = {}
        self._own: dict[str, bool] = {}
        self._lock = threading.RLock()
        self._builtins = {**vars(builtins), "__import__": self._import}

    def enter(self) -> None:
        """What runs in this context from here on belongs to the copy."""
        _current.set(self)
        importlib.import_module = import_module

    def owns(self, name: str) -> bool:
        """Is this a module of the application?"""
        found = self._own.get(name)
        if found is None:
            found = self._own[name] = self._is_own(name)
        return found

    def _is_own(self, name: str) -> bool:
        parent, _, _ = name.rpartition(".")
        if parent and not self.owns(parent):
            return False
        spec = _spec(name)
        if spec is None:
            return False
        if spec.submodule_search_locations is not None and spec.origin is None:  # a namespace package
            return any(is_below(place, self._root) for place in spec.submodule_search_locations)
        return isinstance(spec.loader, importlib.machinery.SourceFileLoader) and is_below(spec.origin, self._root)

    def load(self, name: str) -> ModuleType:
        """The copy of a module of the application, executed if it has not been yet."""
        with self._lock:
            found = self._modules.get(name)
            if found is not None:
                return found
            parent_name, _, last = name.rpartition(".")
            parent = self.load(parent_name) if parent_name else None
            if (found := self._modules.get(name)) is not None:  # the parent has imported it
                return found
            module = self._make(name)
            self._modules[name] = sys.modules[module.__name__] = module
            if parent is not None:
                setattr(parent, last, module)  # before it is executed: modules may import each other in a circle
            try:
                if module.__spec__ is not None and module.__spec__.origin is not None:
                    assert module.__spec__.loader is not None
                    module.__spec__.loader.exec_module(module)
                    self._modules[name] = sys.modules.get(module.__name__, module)  # it may have replaced itself
            except BaseException:
                del self._modules[name], sys.modules[module.__name__]
                if parent is not None:
                    vars(parent).pop(last, None)
                raise
            return self._modules[name]

    def _make(self, name: str) -> ModuleType:
        original = _spec(name)
        if original is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        private = f"{name}@{self.number}"
        places = original.submodule_search_locations
        if original.origin is None:  # a namespace package
            spec = importlib.machinery.ModuleSpec(private, None, is_package=True)
            spec.submodule_search_locations = list(places or ())
        else:
            loader = importlib.machinery.SourceFileLoader(private, original.origin)
            made = importlib.util.spec_from_file_location(
                private, original.origin, loader=loader, submodule_search_locations=places and list(places)
            )
            assert made is not None
            spec = made
        module = importlib.util.module_from_spec(spec)
        package = name if places is not None else name.rpartition(".")[0]
        module.__package__ = f"{package}@{self.number}" if package else ""
        module.__dict__["__builtins__"] = self._builtins
        return module

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """`__import__`, as the import statement of a copied module calls it."""
        absolute = name
        if level:
            package = original_name(globals["__package__"])
            absolute = importlib.util.resolve_name("." * level + name, package)
        if not self.owns(absolute):
            if level:
                raise ModuleNotFoundError(f"No module named {absolute!r}", name=absolute)
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = self.load(absolute)
        if not fromlist:
            # `import a.b` binds a; the relative form always has a list.
            return self.load(absolute.partition(".")[0])
        if hasattr(module, "__path__"):
            names = getattr(module, "__all__", ()) if "*" in fromlist else fromlist
            for wanted in names:
                if not hasattr(module, wanted) and self.owns(f"{absolute}.{wanted}"):
                    self.load(f"{absolute}.{wanted}")
        return module


def import_module(name: str, package: str | None = None) -> ModuleType:
    """importlib.import_module, for a process in which applications have copies."""
    copy = _copy_of(sys._getframe(1).f_globals) or _current.get()
    if copy is not None:
        absolute = name
        if name.startswith(".") and package is not None:
            absolute = importlib.util.resolve_name(name, original_name(package))
        if copy.owns(absolute):
            return copy.load(absolute)
    return _import_module(name, package)


def _copy_of(namespace: dict[str, Any]) -> ModuleCopy | None:
    found = namespace.get("__builtins__")
    importer = found.get("__import__") if isinstance(found, dict) else None
    owner = getattr(importer, "__self__", None)
    return owner if isinstance(owner, ModuleCopy) else None


def original_name(name: str) -> str:
    """The name of the module that a private name is a copy of."""
    return name.partition("@")[0]


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
