"""What drives a worker's coroutines: the kernel's own scheduler, or asyncio once the application needs it.

Plain applications never import asyncio, and then neither does their server. Others get a face (see
`aio.bridge`), from the start or from the moment of the import, and everything that is running goes on
with it.

Some libraries do not import asyncio: they look whether it is loaded and runs a task, and fail where it does not. An
application that has loaded one of them will need asyncio, so that counts as its import.

Owner: the worker's thread. The import may happen on any thread.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from pounce.aio.import_hook import Watch
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver, Task, spawn

if TYPE_CHECKING:
    from pounce.aio.bridge import Face


ASKERS = ("anyio", "sniffio")
"""Modules that look for a running asyncio. Every other library known to do so (httpcore, httpx, Starlette, aiologic,
dnspython, tenacity ...) asks one of these two, and imports it before it asks."""


class Scheduler:
    def __init__(self, loop: Loop, running: Callable[[], Iterable[Driver | None]]) -> None:
        """`running` gives what has been spawned and is not over."""
        self._loop = loop
        self._running = running
        self._face: Face | None = None
        self._over = False
        self._thread = 0
        # SelectorEventLoop is the last name that asyncio gets, and the one that is needed here. Whoever imports asyncio
        # on this thread is told before the next line, also where another thread executes it.
        self._watch = Watch("asyncio", "SelectorEventLoop", self._imported, waiting=True)
        self._askers = [Watch(name, "__name__", lambda: import_module("asyncio")) for name in ASKERS]
        self._anyio = Watch("anyio._backends._asyncio", "backend_class", self._anyio_imported)
        self.spawn: Callable[..., Driver | None] = partial(spawn, loop)
        """Drives a coroutine at once, until it first has to wait: see `kernel.task.spawn`."""

    def begin(self) -> None:
        """This thread is the worker's. Notices from now on when asyncio is imported, or that it has been."""
        self._thread = threading.get_ident()
        self._watch.begin()
        for watch in self._askers:
            if self._face is None:
                watch.begin()

    def _imported(self) -> None:
        if threading.get_ident() == self._thread:
            self._put_on_face()
        else:
            _face_class()  # this thread may await what is the worker's before the worker has had a turn
            with contextlib.suppress(RuntimeError):  # the worker has ended
                self._loop.post(self._put_on_face)

    def _put_on_face(self) -> None:
        if self._face is not None or self._over:  # another thread's import may be told late
            return
        face_class = _face_class()
        if face_class is None:
            return  # this thread comes here again when it has loaded it
        self._end_watches()
        face = self._face = face_class(self._loop)
        self.spawn = face.spawn
        self._anyio.begin()
        face.take_over()
        for task in self._running():
            if isinstance(task, Task):
                task.hand_over()

    def _anyio_imported(self) -> None:
        self._anyio.end()
        assert self._face is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._face.give_anyio_its_root()

    def leave_behind(self) -> None:
        """What has been spawned is given up. asyncio does that at its own end."""
        for task in self._running():
            if isinstance(task, Task):
                task.leave_behind()

    def _end_watches(self) -> None:
        for watch in (self._watch, *self._askers, self._anyio):
            watch.end()

    def turn(self) -> None:
        """Turns the worker's loop: once, or, with a face, until `end`. What the loop raises comes out,
        and calling it again goes on."""
        if self._face is None:
            self._loop.turn()
        else:
            self._face.run()

    @property
    def busy(self) -> bool:
        """Has asyncio been told to end and not yet done so?"""
        return self._face is not None and not self._face.closed

    def end(self, patience: float) -> None:
        """The worker is over. Whatever the application still has running is cancelled, within `patience` seconds."""
        self._over = True
        self._end_watches()
        self.leave_behind()
        if self._face is not None:
            self._face.end(patience)


def _face_class() -> "type[Face] | None":
    """None where this very thread is loading it: what that imports is noticed too."""
    # The thread that executes asyncio holds its import lock until it has its own face. Waiting for that lock while
    # holding the face's would be a deadlock, which the import system resolves by giving half a module.
    import_module("asyncio")
    # Not by a statement, which each watch would notice in turn, and load it again.
    return getattr(import_module("pounce.aio.bridge"), "Face", None)
