"""The asyncio loop of a worker: a stock one on the worker's selector, that hears at once what another thread calls.

asyncio's objects belong to the thread of their loop. Programs touch them from others all the same
(`queue.put_nowait(token)` in a model's thread, `event.set()` for a client of another worker), and all that the loop
sees of it is a `call_soon` on a thread that does not turn it. The stock loop carries the call out when it next wakes
up for something else. This one is woken, and only its own thread touches its heap of timers. The log says once per
process which line it was: what such a line does to the queue or the event itself is still not made for two threads.

In debug mode everything is as with the stock loop, where such a call is a RuntimeError.

asyncio calls `call_soon` several times for each await, from C. So the usual case repeats the stock loop's three lines,
with their private names, in place of a call of them: that makes the look at the thread free.

Owner: the worker's thread. From other threads: `call_soon`, `call_at`, `call_later`, `call_soon_threadsafe`.
"""

import asyncio
import concurrent.futures
import heapq
import logging
import os
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from threading import get_ident
from types import FrameType
from typing import Any

from pounce.kernel.loop import Loop

logger = logging.getLogger("pounce.error")

_POUNCE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_STANDARD = os.path.dirname(os.path.dirname(asyncio.__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_told = threading.Lock()
"""Taken by the thread that writes the line, and never released."""


class WorkerEventLoop(asyncio.SelectorEventLoop):
    _thread_id: int | None  # the thread that turns the loop; None between two runs
    _debug: bool
    _closed: bool
    _call_soon: Callable[..., asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _executor_shutdown_called: bool
    _default_executor: concurrent.futures.Executor | None
    _do_shutdown: Callable[[asyncio.Future[None]], None]

    def call_soon[*Ts](
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if get_ident() == self._thread_id and not (self._debug or self._closed):
            return self._call_soon(callback, args, context)
        if self._foreign:
            handle = self.call_soon_threadsafe(callback, *args, context=context)
            _tell()
            return handle
        return _without_last_frame(super().call_soon(callback, *args, context=context))

    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._foreign:
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            self.call_soon_threadsafe(self._schedule, timer)
            _tell()
            return timer
        return _without_last_frame(super().call_at(when, callback, *args, context=context))

    def _schedule(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled():
            heapq.heappush(self._scheduled, timer)
            timer._scheduled = True  # type: ignore[attr-defined]

    @property
    def _foreign(self) -> bool:
        return self._thread_id not in (None, get_ident()) and not self._debug


class FaceSelector(selectors.BaseSelector):
    """The worker's loop, as asyncio uses a selector."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._loop.selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._loop.selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._loop.selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._loop.selector.get_map()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._loop.turn(timeout)

    def close(self) -> None:
        """The real selector is the worker's, and so is its end. What asyncio has left in it would keep it awake."""
        for key in list(self.get_map().values()):
            if key.data.__class__ is tuple:
                self.unregister(key.fileobj)


class FaceLoop(WorkerEventLoop):
    # Asked for every request, so without a call.
    debugs = False
    """What `get_debug` says."""
    makes_tasks = False
    """Has the application set a task factory?"""

    def __init__(self, loop: Loop) -> None:
        super().__init__(FaceSelector(loop))
        self._wakeup_fd = loop.wakeup_fd

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled)  # called by the stock loop's constructor too
        self.debugs = enabled

    def set_task_factory(self, factory: Any) -> None:
        super().set_task_factory(factory)
        self.makes_tasks = factory is not None

    async def close_default_executor(self, patience: float) -> None:
        """As `shutdown_default_executor`, for a caller that may be no task asyncio knows of. Threads that do not end
        within `patience` seconds are waited for at the end of the process."""
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            closed = self.create_future()
            threading.Thread(target=self._do_shutdown, args=(closed,)).start()
            await asyncio.wait([closed], timeout=patience)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """At the end a generator cannot be closed that a task is running which is left behind; of that the log has
        told."""
        if not getattr(context.get("asyncgen"), "ag_running", False):
            super().call_exception_handler(context)

    def remove_signal_handler(self, sig: int) -> bool:
        """With its last handler asyncio takes away what wakes the loop at a signal; the server has handlers as well."""
        removed = super().remove_signal_handler(sig)
        if removed and (fd := signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)) != -1:
            signal.set_wakeup_fd(fd)
        return removed


def _without_last_frame[H: asyncio.Handle](handle: H) -> H:
    """What debug mode says of a handle ends with the line that asked for it, and not with one of this module."""
    if handle._source_traceback:  # type: ignore[attr-defined]
        del handle._source_traceback[-1]  # type: ignore[attr-defined]
    return handle


def _tell() -> None:
    if _told.acquire(blocking=False):
        frame = _culprit()
        where = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})" if frame else "something"
        logger.warning(
            "%s, on thread %r, uses an object of asyncio that belongs to the event loop of another thread. The loop "
            "has been woken, but asyncio's objects are not thread-safe: use loop.call_soon_threadsafe(...) or "
            "asyncio.run_coroutine_threadsafe(...) there. Said once.",
            where, threading.current_thread().name,
        )  # fmt: skip


def _culprit() -> FrameType | None:
    """The innermost call of the application on this thread; else of a library; else of the standard library."""
    frames = list(_frames())
    return min(frames, key=lambda frame: _distance(frame.f_code.co_filename), default=None)


def _distance(file: str) -> int:
    if any(part in file for part in _INSTALLED):
        return 1
    return 2 if file.startswith((_STANDARD, "<")) else 0


def _frames() -> Iterator[FrameType]:
    """Innermost first, from asyncio's caller to the server's own."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith((__file__, _ASYNCIO)):
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(_POUNCE):
        yield frame
        frame = frame.f_back
