"""Changes found by looking at the files again and again, where the system reports none.

It must never take more than a small share of a CPU, however large the tree. So each look has a budget of time. It goes
first to the files that were modified last, which are those that somebody works on; then to the folders, whose times
change when files are made, removed or replaced, which is how most editors save; then to the other files, in turn. A
file that nobody has touched for long and that is written in place is found last: after up to ten seconds in a tree of
10,000 files. When something has changed, everything is looked at, because changes come in groups.

Owner: the loop's thread.
"""

import heapq
import os
import time
from collections.abc import Iterator

from pounce.kernel.loop import Loop, Timer
from pounce.watch.source import Changed
from pounce.watch.tree import Folder, State, Tree

SHARE = 0.008
"""Of one CPU."""
MIN_INTERVAL = 0.05  # seconds between two looks
HOT = 64
"""How many of the files modified last are looked at each time."""
STEP = 32
"""System calls between two looks at the clock."""
COARSE = 2_000_000_000
"""ns. A folder that was modified no longer ago than this, when it was scanned, is scanned again: its time need not
change with the next file (FAT has two seconds)."""


class Polling:
    how = "polling"

    def __init__(self, loop: Loop, tree: Tree, changed: Changed, delay: float, share: float = SHARE) -> None:
        self._loop = loop
        self._tree = tree
        self._changed = changed
        self._interval = max(delay, MIN_INTERVAL)
        self._share = share
        self._credit = 0.0
        """Seconds that may be spent. Negative after a look that took longer."""
        self._hot = self._modified_last()
        self._folders = self._check_folders()
        self._files = self._check_files()
        self._timer: Timer = loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._look)
        started = time.thread_time()  # what other processes take of the CPU is not counted
        self._credit = min(self._credit, 0.0) + self._interval * self._share
        changed: set[str] = set()
        for folder, name in self._hot:
            self._check_file(folder, name, changed)
        folders_until = started + self._credit / 2
        for changes in self._folders:
            changed |= changes
            if time.thread_time() > folders_until:
                break
        else:
            self._folders = self._check_folders()
        for changes in self._files:
            changed |= changes
            if time.thread_time() > started + self._credit:
                break
        else:
            self._files = self._check_files()
        self._credit -= time.thread_time() - started
        self._changed(changed)

    def _check_folders(self) -> Iterator[set[str]]:
        changed: set[str] = set()
        for count, folder in enumerate([*self._tree.folders.values()]):
            try:
                modified = os.stat(folder.path).st_mtime_ns
            except OSError:
                modified = 0
            recent = 0 <= folder.scanned - folder.mtime < COARSE
            if (modified != folder.mtime or recent) and self._tree.folders.get(folder.path) is folder:
                changed |= self._tree.scan(folder)
            if count % STEP == 0:
                yield changed
                changed = set()
        yield changed

    def _check_files(self) -> Iterator[set[str]]:
        changed: set[str] = set()
        count = 0
        for folder in [*self._tree.folders.values()]:
            for name in [*folder.files]:
                self._check_file(folder, name, changed)
                count += 1
                if count % STEP == 0:
                    yield changed
                    changed = set()
        yield changed

    def _check_file(self, folder: Folder, name: str, changed: set[str]) -> None:
        state: State | None
        try:
            found = os.lstat(f"{folder.path}/{name}")
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            state = None
        if state != folder.files.get(name) and self._tree.folders.get(folder.path) is folder:  # not forgotten meanwhile
            changed |= self._tree.look(folder, name)

    def _modified_last(self) -> list[tuple[Folder, str]]:
        files = heapq.nlargest(HOT, self._tree.all_files(), key=lambda file: file[2][0])
        return [(folder, name) for folder, name, _ in files]

    def catch_up(self) -> None:
        for changes in (*self._check_folders(), *self._check_files()):
            self._changed(changes)
        self._hot = self._modified_last()

    def close(self) -> None:
        self._timer.cancel()
