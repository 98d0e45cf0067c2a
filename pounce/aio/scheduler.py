"""The scheduler of one worker: the kernel's own, or asyncio's once the application has imported asyncio.

A plain application never imports asyncio, and then neither does its server. Any other gets a bridge (see `bridge`),
from the start or from the moment of the import, and everything that is running continues with it.

Some libraries do not import asyncio: they check whether it is loaded and runs a task, and fail if it does not. An
application that has loaded one of them will need asyncio, so loading one counts as importing asyncio.

A scheduler is plain, then perhaps bridged, then ended:

    plain      `_bridge` is None: the kernel drives the coroutines
    bridged    `_bridge` is set, once: asyncio drives them
    ended      `_ended` is set, from either: nothing is attached any more; a bridge is `busy` until it has closed

Must never import asyncio before the application does. Owner: the worker's thread. The import may happen on any thread.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from pounce.aio.import_hook import ImportHook
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver, Task, spawn

if TYPE_CHECKING:
    from pounce.aio.bridge import Bridge


ASYNCIO_DETECTORS = ("anyio", "sniffio")
"""Modules that check for a running asyncio. Every other library known to do so (httpcore, httpx, Starlette, aiologic,
dnspython, tenacity ...) asks one of these two, and imports it before."""


class Scheduler:
    def __init__(self, loop: Loop, running: Callable[[], Iterable[Driver | None]]) -> None:
        """`running` gives what has been spawned and has not ended."""
        self._loop = loop
        self._running = running
        self._bridge: Bridge | None = None
        self._ended = False
        self._thread = 0
        # SelectorEventLoop is the last name that asyncio gets, and the one that is needed here. Code on this thread
        # that imports asyncio has its bridge before the next line, even if another thread executes the module.
        self._asyncio_hook = ImportHook("asyncio", "SelectorEventLoop", self._imported, on_every_import=True)
        self._detector_hooks = [
            ImportHook(name, "__name__", lambda: import_module("asyncio")) for name in ASYNCIO_DETECTORS
        ]
        self._anyio_hook = ImportHook("anyio._backends._asyncio", "backend_class", self._anyio_imported)
        self.spawn: Callable[..., Driver | None] = partial(spawn, loop)
        """Drives a coroutine at once, until it first has to wait: see `kernel.task.spawn`."""

    def begin(self) -> None:
        """This thread is the worker's. Sees from now on when asyncio is imported, or that it has been."""
        self._thread = threading.get_ident()
        self._asyncio_hook.install()
        for hook in self._detector_hooks:
            if self._bridge is None:
                hook.install()

    def _imported(self) -> None:
        if threading.get_ident() == self._thread:
            self._attach_bridge()
        else:
            _bridge_class()  # this thread may await an object of the worker's before the worker's next turn
            with contextlib.suppress(RuntimeError):  # the worker has ended
                self._loop.post(self._attach_bridge)

    def _attach_bridge(self) -> None:
        if self._bridge is not None or self._ended:  # the import on another thread may be reported late
            return
        bridge_class = _bridge_class()
        if bridge_class is None:
            return  # this thread is loading it, and comes here again afterwards
        self._remove_hooks()
        bridge = self._bridge = bridge_class(self._loop)
        self.spawn = bridge.spawn
        self._anyio_hook.install()
        bridge.migrate_current()
        for task in self._running():
            if isinstance(task, Task):
                task.migrate()

    def _anyio_imported(self) -> None:
        self._anyio_hook.remove()
        assert self._bridge is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._bridge.set_anyio_root_task()

    def abandon(self) -> None:
        """Nothing drives the kernel's tasks any more. asyncio abandons its own at its end."""
        for task in self._running():
            if isinstance(task, Task):
                task.abandon()

    def _remove_hooks(self) -> None:
        for hook in (self._asyncio_hook, *self._detector_hooks, self._anyio_hook):
            hook.remove()

    def turn(self) -> None:
        """Turns the worker's loop: once, or, with a bridge, until `end`. An exception of the loop comes out, and
        calling this again continues."""
        if self._bridge is None:
            self._loop.turn()
        else:
            self._bridge.run()

    @property
    def busy(self) -> bool:
        """Is there a bridge that has not closed yet?"""
        return self._bridge is not None and not self._bridge.closed

    def end(self, timeout: float) -> None:
        """The worker has ended. Tasks of the application that still run are cancelled, within `timeout` seconds."""
        self._ended = True
        self._remove_hooks()
        self.abandon()
        if self._bridge is not None:
            self._bridge.end(timeout)


def _bridge_class() -> "type[Bridge] | None":
    """None where this very thread is loading it: its own imports call the hooks, too."""
    # The thread that executes asyncio holds its import lock until it has its own bridge. Waiting for that lock while
    # holding the bridge's would be a deadlock, which the import system resolves by returning half a module.
    import_module("asyncio")
    # Not by a statement: each hook would see it, and load the module again.
    return getattr(import_module("pounce.aio.bridge"), "Bridge", None)
