"""The state of every watched file, and what has changed since it was last compared.

A tree is a table of folders by their real path. Each folder has the state of its files that count: modification time,
size and inode. `scan` compares a whole folder with the disk, `look` one name in it; both return the real paths of
what has changed, and enter folders that are new. So a change is found by comparing, never by believing an event:
whoever watches only says where to compare. That makes an event that is lost, late or reported twice harmless.

Symbolic links are followed: a link to a file has its target watched, a link to a folder has that folder watched as if
it stood there. A folder is entered once, however many links lead to it.

Must never wait, and never raise because of what it finds on the disk: a folder that cannot be read is an empty one.
Owner: the thread that watches.
"""

import logging
import os
import stat
import time
from collections.abc import Callable, Iterator

from pounce.watch.filter import MARKERS, Filter

logger = logging.getLogger("pounce.error")

type State = tuple[int, int, int]
"""Modification time (ns), size (bytes) and inode of a file."""

MAX_FOLDERS = 20_000
"""A tree with more is a mistake, such as a link to a disk of data: entering it all would take seconds."""
MAX_DEPTH = 100
"""A path with more components is not entered: `enter` calls itself for each."""


class Folder:
    __slots__ = ("children", "extra", "files", "inode", "links", "mtime", "path", "scanned", "seen", "whole")

    def __init__(self, path: str, seen: str, *, whole: bool) -> None:
        self.path = path
        self.seen = seen
        """The path by which it was found, which patterns are matched against. Differs below a link."""
        self.whole = whole
        """Does every file count that the filter wants? Otherwise only those in `extra`."""
        self.extra: set[str] = set()
        self.files: dict[str, State] = {}
        self.links: dict[str, str] = {}
        """The links in it and their real paths."""
        self.children: set[str] = set()
        """Names of the folders in it that were entered."""
        self.inode = 0
        self.mtime = self.scanned = 0
        """Its modification time when it was last scanned, and the time of that scan, both ns of the system's clock."""


class Tree:
    """`entered` and `left` are called with each folder, before it is first scanned and after it is gone."""

    def __init__(
        self, filter: Filter, entered: Callable[[Folder], object] = id, left: Callable[[Folder], object] = id
    ) -> None:
        self.filter = filter
        self.entered = entered
        self.left = left
        self.folders: dict[str, Folder] = {}
        self._roots: dict[str, tuple[int, int]] = {}
        """Paths that are watched as they were given, and the device and inode that they led to, or zeros."""
        self._full = False

    # Roots

    def check_roots(self) -> set[str]:
        """Enters what the paths of the filter lead to now. To be called first, and then from time to time: a root may
        be removed and made again, or be a link that changes, and nothing inside it reports that."""
        changed: set[str] = set()
        for path in self.filter.roots:
            changed |= self._check_root(path, whole=True)
        for path in self.filter.files:
            changed |= self._check_root(os.path.dirname(path), whole=False, name=os.path.basename(path))
        return changed

    def _check_root(self, path: str, *, whole: bool, name: str = "") -> set[str]:
        key = os.path.join(path, name)
        try:
            found = os.stat(path)
            now = (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else (0, 0)
        except OSError:
            now = (0, 0)
        before = self._roots.get(key, (0, 0))
        real = os.path.realpath(path) if now != (0, 0) else ""
        if now == before and (not real or real in self.folders):
            return set()
        self._roots[key] = now
        changed = self._forget_lost(path) if before != (0, 0) else set()
        if real:
            changed |= self.enter(real, path, whole=whole, extra=name)
        return changed

    def _forget_lost(self, root: str) -> set[str]:
        """Forgets what was found below a root that now leads elsewhere."""
        return {
            path
            for folder in [*self.folders.values()]
            if folder.seen == root and self.folders.get(folder.path) is folder
            for path in self.forget(folder)
        }

    # Folders

    def enter(self, real: str, seen: str, *, whole: bool, extra: str = "") -> set[str]:
        """Watches a folder, or more of one that is watched. Returns its files that count and were not watched."""
        folder = self.folders.get(real)
        if folder is None:
            if len(self.folders) >= MAX_FOLDERS:
                if not self._full:
                    self._full = True
                    logger.warning(
                        "%s is not watched: there are more than %d folders; name those that matter with "
                        "--reload-dir, or leave some out with --reload-exclude.", seen, MAX_FOLDERS,
                    )  # fmt: skip
                return set()
            folder = self.folders[real] = Folder(real, seen, whole=whole)
            self.entered(folder)
        elif (folder.whole or not whole) and (not extra or extra in folder.extra):
            return set()
        elif whole and not folder.whole:
            folder.seen, folder.whole = seen, True
        if extra:
            folder.extra.add(extra)
        return self.scan(folder)

    def forget(self, folder: Folder) -> set[str]:
        """No longer watches a folder, nor the folders in it. Returns the files that were watched."""
        gone: set[str] = set()
        todo = [folder]
        while todo:
            each = todo.pop()
            if self.folders.pop(each.path, None) is None:
                continue
            self.left(each)
            gone.update(f"{each.path}/{name}" for name in each.files)
            todo += [self.folders[path] for name in each.children if (path := f"{each.path}/{name}") in self.folders]
        return gone

    def rescan(self) -> set[str]:
        """Compares every folder."""
        changed = self.check_roots()
        for folder in [*self.folders.values()]:
            if self.folders.get(folder.path) is folder:
                changed |= self.scan(folder)
        return changed

    def scan(self, folder: Folder) -> set[str]:
        """Compares one folder, and enters what is new in it."""
        folder.scanned = time.time_ns()
        try:
            about = os.stat(folder.path)
            folder.mtime, folder.inode = about.st_mtime_ns, about.st_ino
            with os.scandir(folder.path) as found:
                entries = {entry.name: entry for entry in found}
        except OSError:
            entries = {}
        if not folder.whole:
            entries = {name: entries[name] for name in folder.extra if name in entries}
        elif not MARKERS.isdisjoint(entries) and folder.seen not in self.filter.roots:
            return self.forget(folder)
        changed: set[str] = set()
        for name in [*(folder.files.keys() | folder.links.keys() | folder.children) - entries.keys()]:
            changed |= self._lost(folder, name)
        for name, entry in entries.items():
            if self.tracked(folder, name) or entry.is_symlink() or entry.is_dir(follow_symlinks=False):
                try:
                    changed |= self._compare(folder, name, entry.stat(follow_symlinks=False))
                except OSError:
                    changed |= self._lost(folder, name)
        return changed

    def look(self, folder: Folder, name: str) -> set[str]:
        """Compares one name in a folder."""
        try:
            found = os.lstat(f"{folder.path}/{name}")
        except OSError:
            return self._lost(folder, name)
        if name in MARKERS and folder.whole and folder.seen not in self.filter.roots:
            return self.forget(folder)
        return self._compare(folder, name, found)

    def tracked(self, folder: Folder, name: str) -> bool:
        """Does a file of this name in the folder count?"""
        return name in folder.extra or (folder.whole and self.filter.wanted(f"{folder.seen}/{name}"))

    def _lost(self, folder: Folder, name: str) -> set[str]:
        path = f"{folder.path}/{name}"
        changed = {path} if folder.files.pop(name, None) is not None else set()
        if name in folder.children:
            folder.children.discard(name)
            if path in self.folders:
                changed |= self.forget(self.folders[path])
        target = folder.links.pop(name, None)
        return changed if target is None else changed | self._unlink(target) | self._resolve_links(folder)

    def _compare(self, folder: Folder, name: str, found: os.stat_result) -> set[str]:
        path = f"{folder.path}/{name}"
        if stat.S_ISREG(found.st_mode):
            changed = self._lost(folder, name) if name in folder.children or name in folder.links else set()
            if not self.tracked(folder, name):
                return changed
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if folder.files.get(name) != state:
                folder.files[name] = state
                changed.add(path)
            return changed
        if stat.S_ISDIR(found.st_mode):
            return self._compare_folder(folder, name, found.st_ino)
        if not stat.S_ISLNK(found.st_mode):
            return self._lost(folder, name)
        if os.path.realpath(path) == folder.links.get(name):
            return set()
        return self._lost(folder, name) | self._link(folder, name) | self._resolve_links(folder)

    def _compare_folder(self, folder: Folder, name: str, inode: int) -> set[str]:
        path, seen = f"{folder.path}/{name}", f"{folder.seen}/{name}"
        known = self.folders.get(path)
        if name in folder.children and known is not None and known.inode == inode:
            return set()
        changed = self._lost(folder, name)
        if folder.whole and self.filter.enters(seen) and path.count("/") <= MAX_DEPTH:
            folder.children.add(name)
            changed |= self.enter(path, seen, whole=True)
        return changed

    # Links

    def _link(self, folder: Folder, name: str) -> set[str]:
        path, seen = f"{folder.path}/{name}", f"{folder.seen}/{name}"
        real = folder.links[name] = os.path.realpath(path)
        if os.path.isdir(real):
            if folder.whole and self.filter.enters(seen) and self.filter.enters(real):
                return self.enter(real, seen, whole=True)
        elif self.tracked(folder, name) or (folder.whole and self.filter.wanted(real)):
            above, _, file = real.rpartition("/")
            if os.path.isdir(above or "/"):
                return self.enter(above or "/", os.path.dirname(seen), whole=False, extra=file) | (
                    {real} if os.path.isfile(real) else set()
                )
        return set()

    def _resolve_links(self, folder: Folder) -> set[str]:
        """Follows each link of a folder again: one may lead through another."""
        changed: set[str] = set()
        for name, before in [*folder.links.items()]:
            if os.path.realpath(f"{folder.path}/{name}") != before:
                changed |= self._unlink(before) | self._link(folder, name)
        return changed

    def _unlink(self, target: str) -> set[str]:
        """A link to `target` is gone. What no path but this link led to is forgotten; a target that is a file, and the
        files of one that is a folder, have changed for whoever used the link."""
        folder = self.folders.get(target)
        if folder is None:
            return {target} if os.path.isfile(target) else set()
        if any(target in each.links.values() for each in self.folders.values()) or self._is_inside_a_root(target):
            return {f"{target}/{name}" for name in folder.files}
        return self.forget(folder)

    def _is_inside_a_root(self, path: str) -> bool:
        roots = [os.path.realpath(root) for root in self.filter.roots]
        return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)

    # Files

    def state(self, path: str) -> State | None:
        """The state of a file on the disk now. None: it is not there."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def all_files(self) -> Iterator[tuple[Folder, str, State]]:
        for folder in self.folders.values():
            for name, state in folder.files.items():
                yield folder, name, state
