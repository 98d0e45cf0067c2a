"""Changes as the package watchfiles reports them, for systems that have no inotify (extra `reload`).

It runs in a process of its own, which writes the paths to a pipe. In the server's process it would import anyio, and
could turn the GIL on. As with inotify, a path only says where to compare. What it does not report, such as the target
of a link that leads out of the tree, is polled, with a smaller share of a CPU.

Owner: the loop's thread.
"""

import os
import subprocess
import sys

from pounce.kernel.loop import READ, Loop
from pounce.watch.polling import Polling
from pounce.watch.source import Changed, Failed
from pounce.watch.tree import Tree

PROGRAM = """
import os, sys, threading
from watchfiles import watch

def end_with_the_server():
    sys.stdin.buffer.read()
    os._exit(0)

threading.Thread(target=end_with_the_server, daemon=True).start()
try:
    for changes in watch(*sys.argv[1:], watch_filter=None, debounce=50, step=10, ignore_permission_denied=True):
        os.write(1, b"".join(os.fsencode(path) + bytes(1) for _, path in changes))
except (KeyboardInterrupt, BrokenPipeError):
    pass
"""
"""Writes paths, each with a NUL behind it."""
SHARE = 0.002
"""Of one CPU, for polling."""


class Watchfiles:
    how = "watchfiles"

    def __init__(self, loop: Loop, tree: Tree, changed: Changed, failed: Failed, delay: float) -> None:
        """The tree has been entered. `failed` is called when the process ends by itself."""
        self._loop = loop
        self._tree = tree
        self._changed = changed
        self._failed = failed
        self._polling = Polling(loop, tree, changed, delay, SHARE)
        self._rest = b""
        roots = {os.path.realpath(root) for root in tree.filter.roots}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *sorted(roots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the server's
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        loop.watch(self._fd, READ, self._readable)

    def _readable(self, _events: int) -> None:
        data = os.read(self._fd, 65536)
        if not data:
            self._failed(f"watchfiles has ended with code {self._process.wait()}")
            return
        *paths, self._rest = (self._rest + data).split(b"\0")
        changed: set[str] = set()
        for path in paths:
            changed |= self._compare(os.fsdecode(path))
        self._changed(changed)

    def _compare(self, path: str) -> set[str]:
        """Compares this path, or the highest one above it that is not watched."""
        above, name = os.path.split(path)
        while (folder := self._tree.folders.get(os.path.realpath(above))) is None and above != os.path.dirname(above):
            above, name = os.path.split(above)
        return self._tree.look(folder, name) if folder is not None else set()

    def catch_up(self) -> None:
        """Nothing: every change is reported, or polled."""

    def close(self) -> None:
        self._polling.close()
        self._loop.unwatch(self._fd)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.stdin.close()  # the process ends
        self._process.wait()
