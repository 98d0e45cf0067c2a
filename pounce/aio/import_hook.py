"""An import hook: calls a function when a module is first imported, by any code, on any thread.

Two mechanisms, because two threads matter. The thread that executes the module is seen by wrapping the module's
loader. A thread that imports the module meanwhile only waits for the first. It is seen by wrapping `__import__`, for as
long as a hook needs that.

Must never find, change or delay a module itself: the other finders find it, and after its import it is what it would
have been without the hook.

Owner: the lists of hooks and of finders are replaced, never changed, under a lock. Any thread may read them.
"""

import builtins
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

    from _typeshed.importlib import MetaPathFinderProtocol

_lock = threading.Lock()


class ImportHook:
    """Calls `on_import()` on the thread that has executed the module `name`, and with `on_every_import` also on every
    thread that imports it, until `remove`. The module has been executed when it has the attribute `marker`."""

    hooks: tuple["ImportHook", ...] = ()
    on_every_import: tuple["ImportHook", ...] = ()

    def __init__(
        self, name: str, marker: str, on_import: Callable[[], object], *, on_every_import: bool = False
    ) -> None:
        self._name = name
        self._marker = marker
        self._on_import = on_import
        self._every_import = on_every_import

    def install(self) -> None:
        """Calls `on_import` from now on; at once if the module has been imported before."""
        with _lock:
            if self._every_import:
                if not ImportHook.on_every_import:
                    builtins.__import__ = _import
                ImportHook.on_every_import = (*ImportHook.on_every_import, self)
            ImportHook.hooks = (*ImportHook.hooks, self)
            # A new list: another thread may be iterating over the old one.
            sys.meta_path = [self, *sys.meta_path]
        self.check()

    def remove(self) -> None:
        with _lock:
            if self in ImportHook.hooks:
                ImportHook.hooks = tuple(hook for hook in ImportHook.hooks if hook is not self)
                ImportHook.on_every_import = tuple(hook for hook in ImportHook.on_every_import if hook is not self)
                sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
                if not ImportHook.on_every_import and builtins.__import__ is _import:
                    builtins.__import__ = _original

    def check(self) -> None:
        """Has the module been executed?"""
        if hasattr(sys.modules.get(self._name), self._marker):
            self._on_import()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        for finder in finders_after(self):
            if not isinstance(finder, ImportHook) and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _NotifyingLoader(spec.loader)  # type: ignore[assignment]  # fits by its shape
                return spec
        return None


def finders_after(finder: "MetaPathFinderProtocol") -> list["MetaPathFinderProtocol"]:
    """The finders that `finder` may ask in its turn. One that stands before it and asks others as well would ask it
    again, without end."""
    finders = sys.meta_path
    # An import that began before the list was replaced may call a finder that is no longer in it.
    return finders[finders.index(finder) + 1 :] if finder in finders else finders


class _NotifyingLoader:
    """A loader that has the hooks check when it has executed its module. Not derived from importlib.abc, whose import
    costs 3 MiB on 3.13."""

    def __init__(self, loader: "Loader") -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # From here on the module is what it would be without the hook.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        for hook in ImportHook.hooks:
            hook.check()


_original = builtins.__import__


def _import(name: str, *rest: Any, **more: Any) -> ModuleType:
    module = _original(name, *rest, **more)
    for hook in ImportHook.on_every_import:
        hook.check()
    return module
