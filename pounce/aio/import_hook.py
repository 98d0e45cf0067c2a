"""Notices when a module is first imported, by whomever, on whichever thread.

Two ways, because there are two threads to think of. The one that executes the module is caught by listening to the
module's loader. One that wants the module meanwhile only waits for the first, and is caught by listening to
`__import__`, for as long as anyone watches for it.
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


class Watch:
    """Calls `imported()` on the thread that has executed the module `name`, and with `waiting` also on every thread
    that imports it, until `end`. The module has been executed when it has the attribute `last`.

    Finds nothing itself: it lets the others find, and listens in when what they found is executed.
    """

    watches: tuple["Watch", ...] = ()
    waiting: tuple["Watch", ...] = ()

    def __init__(self, name: str, last: str, imported: Callable[[], object], *, waiting: bool = False) -> None:
        self._name = name
        self._last = last
        self._imported = imported
        self._waits = waiting

    def begin(self) -> None:
        """Starts watching. What has been imported before is told at once."""
        with _lock:
            if self._waits:
                if not Watch.waiting:
                    builtins.__import__ = _import
                Watch.waiting = (*Watch.waiting, self)
            Watch.watches = (*Watch.watches, self)
            # A new list each time: another thread may be going through the old one.
            sys.meta_path = [self, *sys.meta_path]
        self.look()

    def end(self) -> None:
        with _lock:
            if self in Watch.watches:
                Watch.watches = tuple(watch for watch in Watch.watches if watch is not self)
                Watch.waiting = tuple(watch for watch in Watch.waiting if watch is not self)
                sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
                if not Watch.waiting and builtins.__import__ is _import:
                    builtins.__import__ = _original

    def look(self) -> None:
        if hasattr(sys.modules.get(self._name), self._last):
            self._imported()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        for finder in finders_after(self):
            if not isinstance(finder, Watch) and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Listening(spec.loader)  # type: ignore[assignment]  # fits by its shape
                return spec
        return None


def finders_after(me: "MetaPathFinderProtocol") -> list["MetaPathFinderProtocol"]:
    """Those that a finder may pass the question on to, if it finds nothing itself. One that stands before it, and
    passes questions on as well, would ask it in turn, without end."""
    finders = sys.meta_path
    # The list is replaced, not changed: an import that began with the old one may ask a finder that has left.
    return finders[finders.index(me) + 1 :] if me in finders else finders


class _Listening:
    """A loader, and what to do when it has done its work. Not derived from importlib.abc, whose import costs 3 MiB on
    3.13."""

    def __init__(self, loader: "Loader") -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # From here on the module is what it would be had nobody listened.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        for watch in Watch.watches:
            watch.look()


_original = builtins.__import__


def _import(name: str, *rest: Any, **more: Any) -> ModuleType:
    module = _original(name, *rest, **more)
    for watch in Watch.waiting:
        watch.look()
    return module
