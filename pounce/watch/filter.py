"""Which files and folders are watched: the rules of --reload-dir, --reload-include and --reload-exclude.

The rules are uvicorn's. A file counts if an include matches it and no exclude does; an include that a path ends with
wins over every exclude. A pattern is matched against the last components of a path, and an absolute one against the
whole of it. A pattern that matches a folder, seen from the current folder, means the folder: an include watches it
in place of the current folder, an exclude leaves it out. `**` stands for any number of folders.

What differs: version control, virtual environments, installed packages and caches are never entered.

Must never read a file. Owner: the thread that watches; nothing here changes after the construction.
"""

import glob
import os
import re
from collections.abc import Iterable, Sequence

INCLUDES = ("*.py",)
EXCLUDES = (".*", ".py[cod]", ".sw.*", "~*")
"""uvicorn's defaults."""
NOT_FOR_FOLDERS = ".*"
"""As an exclude it means hidden files only, with uvicorn too."""

NEVER = frozenset((
    ".git", ".hg", ".svn", ".jj", "node_modules", ".venv", "site-packages", "dist-packages", "__pycache__", ".cache",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".eggs", ".direnv", ".pixi",
    ".ipynb_checkpoints",
))  # fmt: skip
"""Names of folders that are not entered."""
MARKERS = frozenset(("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG"))
"""A folder that contains one of these is a virtual environment or a cache (https://bford.info/cachedir/)."""
PSEUDO = frozenset(("/proc", "/sys", "/dev"))


class Filter:
    """`folders`, `includes`, `excludes`: the values of the options. `files` count whatever their names are, such as
    that of --env-file. `default`: folders to watch, besides the current one, where neither `folders` nor `includes`
    name any."""

    def __init__(
        self,
        folders: Sequence[str],
        includes: Sequence[str],
        excludes: Sequence[str],
        files: Sequence[str] = (),
        default: Sequence[str] = (),
    ) -> None:
        here = os.getcwd()
        included = [pattern for pattern in INCLUDES if pattern not in excludes]
        included += [pattern for pattern in includes if pattern not in excludes]
        excluded = [pattern for pattern in EXCLUDES if pattern not in includes] + list(excludes)
        self._included, self._excluded = _Patterns(included), _Patterns(excluded)
        self._endings = tuple(included)
        self._left_out = _Patterns(os.path.join(here, pattern) for pattern in excludes if pattern != NOT_FOR_FOLDERS)
        named = [folder for pattern in includes if pattern not in excludes for folder in _folders(pattern, here)]
        watched = [*map(os.path.abspath, folders), *named] or [here, *map(os.path.abspath, default)]
        self.roots = tuple(path for path in dict.fromkeys(watched) if not self._is_left_out(path)) or (here,)
        """The folders that are watched with all that is in them. One may be inside another."""
        self.files = frozenset(
            os.path.abspath(path)
            for path in (*files, *(os.path.join(here, pattern) for pattern in includes if os.path.isfile(pattern)))
        )

    def wanted(self, path: str) -> bool:
        """Does this file count? `path` is absolute. Not asked here: whether the folders above it are entered."""
        name = path[path.rfind("/") + 1 :]
        if not self._included.match(path, name):
            return path in self.files
        return not self._excluded.match(path, name) or path in self.files or self._is_named(path)

    def _is_named(self, path: str) -> bool:
        return any(path.endswith(ending) and _Patterns([ending]).match(path, "") for ending in self._endings)

    def enters(self, path: str) -> bool:
        """Is this folder watched if the folder above it is? `path` is absolute."""
        if path[path.rfind("/") + 1 :] in NEVER or path in PSEUDO:
            return False
        return path in self.roots or not self._left_out.match(path, "")

    def _is_left_out(self, path: str) -> bool:
        while not self._left_out.match(path, ""):
            above = os.path.dirname(path)
            if above == path:
                return False
            path = above
        return True


def _folders(pattern: str, here: str) -> list[str]:
    """The folders that an include means."""
    if os.path.isdir(pattern):
        return [os.path.abspath(pattern)]
    if pattern == NOT_FOR_FOLDERS or "**" in pattern:  # `**` would have every folder read, also those never entered
        return []
    found = glob.glob(os.path.join(glob.escape(here), pattern), include_hidden=True)
    return [os.path.normpath(path) for path in found if os.path.isdir(path) and os.path.basename(path) not in NEVER]


class _Patterns:
    """Several patterns as one. Those without a slash look at the name alone."""

    def __init__(self, patterns: Iterable[str]) -> None:
        of_names, of_paths = [], []
        for pattern in patterns:
            plain = os.path.normpath(pattern)
            translated = glob.translate(plain, recursive=True, include_hidden=True, seps="/")
            if "/" not in plain and plain != "**":
                of_names.append(translated)
            of_paths.append(translated if os.path.isabs(plain) else f"(?s:.*/)?{translated}")
        self._by_name = _either(of_names)
        self._by_path = _either(of_paths)
        self._only_names = len(of_names) == len(of_paths)

    def match(self, path: str, name: str) -> bool:
        """`name`: the last component of the path, or "" for a caller that does not have it."""
        if name and self._by_name is not None and self._by_name.match(name):
            return True
        if self._by_path is None or (name and self._only_names):
            return False
        return self._by_path.match(path) is not None


def _either(expressions: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{expression})" for expression in expressions)) if expressions else None
