"""Changes as Linux reports them: inotify(7), by ctypes.

One watch for each folder. An event says in which folder to compare which name; the tree finds what has changed. A file
counts when it is closed by its writer or moved into place, so that it is complete; a file that is written all the time
and stays open, such as a log, costs nothing.

Races, and what settles them:

    new folder     the watch is set first, then the folder is read. What is made meanwhile is reported, or read, or both
    moved folder   its watch moves with it. The tree forgets the old place and enters the new one; whichever comes
                   first, the watch belongs to the place that was entered last
    made again     the kernel drops the watch of a removed folder (IN_IGNORED), even where the new one has its inode
    overflow       the kernel drops events (IN_Q_OVERFLOW): the whole tree is compared

Owner: the loop's thread.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from pounce.kernel.loop import READ, Loop
from pounce.watch.filter import MARKERS
from pounce.watch.source import Changed, Failed
from pounce.watch.tree import Folder, Tree

IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_EXCL_UNLINK = 0x4000000
EVENTS = IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
FLAGS = EVENTS | IN_ONLYDIR | IN_EXCL_UNLINK
COMPLETE = IN_CLOSE_WRITE | IN_MOVED_TO
"""A file has new content, even if its time and size are the old ones: times may be as coarse as two seconds."""

EVENT = struct.Struct("iIII")
BUFFER = 65536  # bytes

FULL = {
    errno.ENOSPC: "no inotify watch is left for it; raise fs.inotify.max_user_watches",
    errno.EMFILE: "no inotify instance is left; raise fs.inotify.max_user_instances",
}


class Unavailable(Exception):
    """There is no inotify left. The text is the reason."""


class Unsupported(Exception):
    """This system has no inotify."""


class Calls:
    """The three system calls. Raises Unsupported."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            self.init, self.add, self.remove = (
                getattr(library, f"inotify_{name}") for name in ("init1", "add_watch", "rm_watch")
            )
        except AttributeError:
            raise Unsupported from None
        self.add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Inotify:
    how = "inotify"

    def __init__(self, loop: Loop, tree: Tree, changed: Changed, failed: Failed) -> None:
        """Sets watches on the folders that the tree enters. Raises Unavailable, Unsupported."""
        self._loop = loop
        self._tree = tree
        self._changed = changed
        self._failed = failed
        self._calls = Calls()
        self._fd = self._calls.init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise Unavailable(FULL.get(code) or os.strerror(code))
        self._folders: dict[int, Folder] = {}
        self._watches: dict[Folder, int] = {}
        tree.entered, tree.left = self._add, self._remove
        loop.watch(self._fd, READ, self._readable)

    def _add(self, folder: Folder) -> None:
        watch = self._calls.add(self._fd, os.fsencode(folder.path), FLAGS)
        if watch < 0:
            code = ctypes.get_errno()
            if code not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):  # gone meanwhile; not readable
                self._failed(f"{folder.path}: {FULL.get(code) or os.strerror(code)}")
            return
        moved = self._folders.get(watch)
        if moved is not None:
            self._watches.pop(moved, None)
        self._folders[watch] = folder
        self._watches[folder] = watch

    def _remove(self, folder: Folder) -> None:
        watch = self._watches.pop(folder, None)
        if watch is not None:
            del self._folders[watch]
            self._calls.remove(self._fd, watch)

    def _readable(self, _events: int) -> None:
        try:
            data = os.read(self._fd, BUFFER)
        except BlockingIOError:
            return
        changed: set[str] = set()
        for watch, mask, name in _events_of(data):
            if mask & IN_Q_OVERFLOW:
                changed |= self._tree.rescan()
            elif (folder := self._folders.get(watch)) is None:
                continue
            elif mask & IN_IGNORED:
                changed |= self._dropped(folder)
            elif name:
                changed |= self._compare(folder, name, mask)
        self._changed(changed)

    def _compare(self, folder: Folder, name: str, mask: int) -> set[str]:
        tree = self._tree
        if mask & (IN_CLOSE_WRITE | IN_ATTRIB) and not tree.tracked(folder, name):
            return set()
        if not (folder.whole or name in folder.extra or name in MARKERS):
            return set()
        found = tree.look(folder, name)
        if mask & COMPLETE and name in folder.files:
            found.add(f"{folder.path}/{name}")
        return found

    def _dropped(self, folder: Folder) -> set[str]:
        """The kernel has dropped the folder's watch, because the folder was removed."""
        del self._folders[self._watches.pop(folder)]
        gone = self._tree.forget(folder)
        above = self._tree.folders.get(os.path.dirname(folder.path))
        return gone if above is None else gone | self._tree.look(above, os.path.basename(folder.path))

    def catch_up(self) -> None:
        """Nothing: every change is reported."""

    def close(self) -> None:
        self._tree.entered = self._tree.left = id
        self._loop.unwatch(self._fd)
        os.close(self._fd)


def _events_of(data: bytes) -> Iterator[tuple[int, int, str]]:
    """The watch, mask and name of each event."""
    at = 0
    while at < len(data):
        watch, mask, _cookie, length = EVENT.unpack_from(data, at)
        at += EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length
