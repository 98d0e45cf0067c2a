"""What drives a worker's coroutines: the kernel's own scheduler, or asyncio once the application has imported it.

Plain applications never import asyncio, and then neither does their server. Others get a face (see
`kernel.asyncio_face`), from the start or from the moment of the import, and everything that is running goes on
with it.

Owner: the worker's thread. The import may happen on any thread.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from pounce.imports import Watch
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver, Task, spawn

if TYPE_CHECKING:
    from pounce.kernel.asyncio_face import Face


class Scheduler:
    def __init__(self, loop: Loop, running: Callable[[], Iterable[Driver | None]]) -> None:
        """`running` gives what has been spawned and is not over."""
        self._loop = loop
        self._running = running
        self._face: Face | None = None
        self._over = False
        self._thread = 0
        # SelectorEventLoop is the last name that asyncio gets, and the one that is needed here.
        self._watch = Watch("asyncio", "SelectorEventLoop", self._imported)
        self.spawn: Callable[..., Driver | None] = partial(spawn, loop)
        """Drives a coroutine at once, until it first has to wait: see `kernel.task.spawn`."""

    def begin(self) -> None:
        """This thread is the worker's. Notices from now on when asyncio is imported, or that it has been."""
        self._thread = threading.get_ident()
        self._watch.begin()

    def _imported(self) -> None:
        if threading.get_ident() == self._thread:
            self._put_on_face()
        else:
            with contextlib.suppress(RuntimeError):  # the worker has ended
                self._loop.post(self._put_on_face)

    def _put_on_face(self) -> None:
        if self._face is not None or self._over:  # another thread's import may be told late
            return
        self._watch.end()
        from pounce.kernel.asyncio_face import Face

        face = self._face = Face(self._loop)
        self.spawn = face.spawn
        face.take_over()
        for task in self._running():
            if isinstance(task, Task):
                task.hand_over()

    def turn(self) -> None:
        """Turns the worker's loop: once, or, with a face, until `end` or `abandon`. What the loop raises comes out,
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
        self._watch.end()
        if self._face is not None:
            self._face.end(patience)

    def abandon(self) -> None:
        """The worker is over, whatever is still running."""
        self._over = True
        self._watch.end()
        if self._face is not None:
            self._face.abandon()
