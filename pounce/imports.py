"""Notices when a module is first imported, by whomever, on whichever thread."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


class _Watch(importlib.abc.MetaPathFinder):
    """Finds nothing itself. Lets the others find, and listens in when what they found has been executed."""

    def __init__(self, name: str, imported: Callable[[], object]) -> None:
        self._name = name
        self._imported = imported

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Listening(spec.loader, self._imported)
        return spec


class _Listening(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, imported: Callable[[], object]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # From here on the module is what it would be had nobody listened.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._imported()


def when_imported(name: str, imported: Callable[[], object]) -> Callable[[], None]:
    """Calls `imported()` once, on the importing thread, when the module has been executed; at once if it was
    imported before. Returns what ends the watch."""
    if name in sys.modules:
        imported()
        return lambda: None
    watch = _Watch(name, imported)
    sys.meta_path.insert(0, watch)

    def end() -> None:
        if watch in sys.meta_path:
            sys.meta_path.remove(watch)

    return end
