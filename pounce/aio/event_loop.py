"""The asyncio loop of a worker: a stock loop on the worker's selector, which wakes up when another thread calls it.

asyncio's objects belong to the thread of their loop. Programs use them from other threads all the same
(`queue.put_nowait(token)` in a model's thread, `event.set()` for a client of another worker). The loop then sees a
`call_soon` on a thread that does not turn it. The stock loop makes the call when it next wakes up for another reason.
This loop is woken, and its heap of timers is changed only by its own thread. The log names the line once per process:
asyncio's queues and events are not thread-safe, and waking the loop does not make them so.

In debug mode such a call is a RuntimeError, as with the stock loop.

asyncio calls `call_soon` several times for each await, from C. So the usual case repeats three lines of the stock loop,
with their private names, instead of calling them: that pays for the comparison of the threads.

Must never turn the worker's loop but in `select`. Owner: the worker's thread. Other threads may call `call_soon`,
`call_at`, `call_later` and `call_soon_threadsafe`.
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

_logged = threading.Lock()
"""Acquired by the thread that writes the line, and never released."""


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
        if self._on_other_thread:
            handle = self.call_soon_threadsafe(callback, *args, context=context)
            _log_cross_thread_use()
            return handle
        return _without_last_frame(super().call_soon(callback, *args, context=context))

    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._on_other_thread:
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            self.call_soon_threadsafe(self._schedule, timer)
            _log_cross_thread_use()
            return timer
        return _without_last_frame(super().call_at(when, callback, *args, context=context))

    def _schedule(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled():
            heapq.heappush(self._scheduled, timer)
            timer._scheduled = True  # type: ignore[attr-defined]

    @property
    def _on_other_thread(self) -> bool:
        return self._thread_id not in (None, get_ident()) and not self._debug


class BridgeSelector(selectors.BaseSelector):
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
        """The worker closes the real selector. A descriptor that asyncio has left in it would keep waking it."""
        for key in list(self.get_map().values()):
            if key.data.__class__ is tuple:
                self.unregister(key.fileobj)


class BridgeLoop(WorkerEventLoop):
    # Read for every request, so attributes.
    debug_mode = False
    """What `get_debug` returns."""
    has_task_factory = False
    """Has the application set a task factory?"""

    def __init__(self, loop: Loop) -> None:
        super().__init__(BridgeSelector(loop))
        self._wakeup_fd = loop.wakeup_fd

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled)  # called by the stock loop's constructor too
        self.debug_mode = enabled

    def set_task_factory(self, factory: Any) -> None:
        super().set_task_factory(factory)
        self.has_task_factory = factory is not None

    async def close_default_executor(self, timeout: float) -> None:
        """As `shutdown_default_executor`, for a caller that asyncio may not know as a task. Threads that do not end
        within `timeout` seconds are waited for at the end of the process."""
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            closed = self.create_future()
            threading.Thread(target=self._do_shutdown, args=(closed,)).start()
            await asyncio.wait([closed], timeout=timeout)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Does not log that a generator cannot be closed because an abandoned task runs it: the log has named the
        task."""
        if not getattr(context.get("asyncgen"), "ag_running", False):
            super().call_exception_handler(context)

    def remove_signal_handler(self, sig: int) -> bool:
        """With its last handler asyncio removes the descriptor that wakes the loop at a signal. The server's handlers
        still need it."""
        removed = super().remove_signal_handler(sig)
        if removed and (fd := signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)) != -1:
            signal.set_wakeup_fd(fd)
        return removed


def _without_last_frame[H: asyncio.Handle](handle: H) -> H:
    """The handle, with a debug traceback that ends with the line of the application that has made it."""
    if handle._source_traceback:  # type: ignore[attr-defined]
        del handle._source_traceback[-1]  # type: ignore[attr-defined]
    return handle


def _log_cross_thread_use() -> None:
    if _logged.acquire(blocking=False):
        frame = _caller_frame()
        where = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})" if frame else "something"
        logger.warning(
            "%s, on thread %r, uses an object of asyncio that belongs to the event loop of another thread. The loop "
            "has been woken, but asyncio's objects are not thread-safe: use loop.call_soon_threadsafe(...) or "
            "asyncio.run_coroutine_threadsafe(...) there. Logged once.",
            where, threading.current_thread().name,
        )  # fmt: skip


def _caller_frame() -> FrameType | None:
    """The innermost frame of the application on this thread; else of a library; else of the standard library."""
    frames = list(_frames())
    return min(frames, key=lambda frame: _frame_rank(frame.f_code.co_filename), default=None)


def _frame_rank(file: str) -> int:
    if any(part in file for part in _INSTALLED):
        return 1
    return 2 if file.startswith((_STANDARD, "<")) else 0


def _frames() -> Iterator[FrameType]:
    """Innermost first, from asyncio's caller up to the server's own frames."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith((__file__, _ASYNCIO)):
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(_POUNCE):
        yield frame
        frame = frame.f_back
