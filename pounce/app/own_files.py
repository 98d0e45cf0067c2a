"""The import of an application's own files for a new generation.

A `.pyc` file says which source it was made from by the time of its last change, in whole seconds, and by its size. Two
edits within one second that do not change the size would load the code of the first one. So a file that has changed
since the server was started is compiled from its source, and the code is kept in memory by the time in nanoseconds and
the size.

Must never load the bytecode of such a file, nor write it. Owner: whichever thread imports; the cache is changed by
single stores.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Buffer, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import dropwhile, islice
from types import CodeType, ModuleType
from typing import Any, NamedTuple, cast

from pounce.app import running
from pounce.app.generation_modules import GenerationModules
from pounce.app.modules import ApplicationModules


class _Compiled(NamedTuple):
    changed: int
    """Nanoseconds; `st_mtime_ns` of the file before it was read."""
    size: int
    source: bytes | None
    """None: as in the file."""
    code: CodeType


UNCHANGED_BEFORE = 2_000_000_000
"""Nanoseconds before the server's start: a file that is older has been as it is now since its bytecode was made."""


class CodeCache:
    """The code of files, as they were when they were last imported."""

    def __init__(self, began: int) -> None:
        """`began`: when the server was started, as `time.time_ns`."""
        self._files: dict[str, _Compiled] = {}
        self._began = began

    def get(self, path: str, loader: SourceFileLoader) -> _Compiled:
        """Raises OSError, SyntaxError."""
        stat = os.stat(path)
        found = self._files.get(path)
        if found is None or (found.changed, found.size) != (stat.st_mtime_ns, stat.st_size):
            if stat.st_mtime_ns < self._began - UNCHANGED_BEFORE:
                source, code = None, cast(CodeType, SourceFileLoader.get_code(loader, loader.name))
            else:
                source = loader.get_data(path)
                code = loader.source_to_code(source, path)
            found = self._files[path] = _Compiled(stat.st_mtime_ns, stat.st_size, source, code)
        return found


class OwnLoader(SourceFileLoader):
    def __init__(self, name: str, path: str, cache: CodeCache, generation: GenerationModules) -> None:
        super().__init__(name, path)
        self._cache = cache
        self._mark = generation.mark
        self._source: bytes | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return _create_module(self._mark, spec)

    def exec_module(self, module: ModuleType) -> None:
        _exec_module(self._mark, super().exec_module, module)

    def get_code(self, fullname: str) -> CodeType:
        found = self._cache.get(self.get_filename(fullname), self)
        self._source = found.source
        return found.code

    def get_source(self, fullname: str) -> str | None:
        """The source that was executed, even if the file has changed since."""
        return importlib.util.decode_source(self._source) if self._source is not None else super().get_source(fullname)


def _generation_of(mark: running.Mark) -> GenerationModules | None:
    found = running.find(mark)
    return found if isinstance(found, GenerationModules) else None


def _create_module(mark: running.Mark, spec: ModuleSpec) -> ModuleType | None:
    generation = _generation_of(mark)
    return generation.create(spec.name) if generation is not None else None


def _exec_module(mark: running.Mark, execute: Any, module: ModuleType) -> None:
    name, generation = module.__name__, _generation_of(mark)
    try:
        execute(module)
    except BaseException:
        if generation is not None:
            generation.forget(name)
        raise
    if generation is not None:
        generation.loaded(name)


class OwnFinder:
    """One of the import system's finders. Has the application's own files loaded for the running code's generation."""

    def __init__(self, modules: ApplicationModules, family: object, began: int) -> None:
        self._family = family
        self.modules = modules
        self._cache = CodeCache(began)
        self.imported_files: set[str] = set()
        """Paths, of files that could not be executed, too."""

    def install(self) -> None:
        if self not in sys.meta_path:
            sys.meta_path = [self, *sys.meta_path]

    def remove(self) -> None:
        sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        # Asks only the finders behind it. One before it that asks others as well would ask this one again, without end.
        for finder in islice(dropwhile(lambda each: each is not self, sys.meta_path), 1, None):
            if isinstance(finder, OwnFinder) or (spec := finder.find_spec(name, path, target)) is None:
                continue
            for own in sys.meta_path:  # each server has one
                if isinstance(own, OwnFinder) and own.adapt(spec):
                    break
            return spec
        return None

    def adapt(self, spec: ModuleSpec) -> bool:
        """Has the module loaded for the running code's generation, if it is of this application. Is it?"""
        generation = running.generation(self._family)
        if not isinstance(generation, GenerationModules) or not self.modules.contains_spec(spec):
            return False
        self._adapt(spec, generation)
        return True

    def _adapt(self, spec: ModuleSpec, generation: GenerationModules) -> None:
        loader: Any = spec.loader
        if isinstance(loader, SourceFileLoader):
            self.imported_files.add(loader.path)
        if type(loader) is SourceFileLoader:
            spec.loader, spec.loader_state = (
                OwnLoader(loader.name, loader.path, self._cache, generation),
                generation.mark,
            )
        elif isinstance(loader, SourceFileLoader):  # it changes the code of what it loads
            spec.loader_state = generation.mark
            changed: Any = loader
            changed.path_stats = _no_bytecode
            changed.create_module = partial(_create_module, generation.mark)
            changed.exec_module = partial(_exec_module, generation.mark, loader.exec_module)


def _no_bytecode(path: Buffer | str) -> Any:
    """In place of `path_stats`: the import system then compiles the source."""
    raise OSError
