"""Which modules are the application's own: Python files below its folder that were not installed there.

Reads `sys.modules` and module specs. Must never import or change a module. Owner: none; any thread may ask.
"""

import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

_INSTALLED = frozenset(("site-packages", "dist-packages"))
_SERVER_PATH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# As `sysconfig.get_paths` says, whose import takes half a MiB.
_STDLIB = os.path.dirname(os.__file__)
_PLATFORM_STDLIB = os.path.join(sys.base_exec_prefix, sys.platlibdir, os.path.basename(_STDLIB))
_SHARED = (_SERVER_PATH, _STDLIB, _PLATFORM_STDLIB, sys.prefix)
"""Folders whose files are not the application's, even where they lie below its own."""


class ApplicationModules:
    """The modules of the application whose files lie below the folders `roots`."""

    def __init__(self, *roots: str) -> None:
        self._roots = roots
        self._known: dict[str, bool] = {}

    def contains(self, name: str) -> bool:
        """Is the imported module of this name one of them?"""
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None:
            return name == "__main__" and self.contains_file(getattr(sys.modules[name], "__file__", None))
        if spec.loader is None and spec.submodule_search_locations is None:
            return False  # the running code's generation has not loaded it, and may still do so
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self.contains_spec(spec)
        return found

    def contains_spec(self, spec: importlib.machinery.ModuleSpec) -> bool:
        """Is the module with this spec one of them?"""
        if spec.submodule_search_locations is not None and spec.origin is None:  # a namespace package
            return any(self.contains_file(folder) for folder in spec.submodule_search_locations)
        return isinstance(spec.loader, importlib.machinery.SourceFileLoader) and self.contains_file(spec.origin)

    def contains_file(self, path: str | None) -> bool:
        return any(is_application_file(path, root) for root in self._roots)

    def imported(self) -> dict[str, ModuleType]:
        """Those that have been imported, in the order in which their imports began."""
        return {name: module for name, module in list(sys.modules.items()) if self.contains(name)}


def is_application_file(path: str | None, root: str) -> bool:
    """Does this file or folder lie below `root`, without having been installed there?"""
    if path is None:
        return False
    file, folder = os.path.abspath(path), os.path.abspath(root)
    if not _is_below(file, folder) or not _INSTALLED.isdisjoint(file.split(os.sep)):
        return False
    # The application's folder may contain the virtual environment, or be the root of the file system.
    return not any(_is_below(each, folder) and _is_below(file, each) for each in _SHARED)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def root_of(module_name: str) -> str | None:
    """The folder that contains the application's top-level module or package; None when that is not a plain file of
    the application's own (but installed, compiled, or in an archive)."""
    top = module_name.partition(".")[0]
    spec = _find_spec(top)
    if spec is None:
        return None
    location = next(iter(spec.submodule_search_locations or ()), spec.origin if spec.has_location else None)
    if location is None:
        return None
    root = os.path.dirname(os.path.abspath(location))
    return root if is_application_file(location if spec.origin is None else spec.origin, root) else None


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
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


def obstacle_to_second_import(app: Any, has_files: bool) -> str | None:
    """Why the modules of this application cannot be executed again; None if they can. `has_files`: is it made of
    Python files of its own?"""
    if not isinstance(app, str):
        return "the application was handed over as an object, not as an import string"
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if getattr(settings, "configured", False):
        return "Django keeps one register of an application's URLs and models"
    return None if has_files else "it is not made of Python files of its own"
