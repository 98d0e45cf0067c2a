"""The two waits that a plain application may use without asyncio: for time, and for a function on another thread.

Must never start a thread that no application has asked for. Owner of a wait: the loop's thread. The thread pool belongs
to the process.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pounce.kernel.task import Cancellable, Wait, Waiter

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

THREAD_NAME = "pounce-helper"


class _Sleep(Wait):
    __slots__ = ("_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._timer: Cancellable | None = None

    def park(self, task: Waiter) -> None:
        super().park(task)
        self._timer = task.loop.call_later(self._seconds, self.wake)

    def unpark(self) -> None:
        super().unpark()
        if self._timer is not None:
            self._timer.cancel()


class _ThreadCall(Wait):
    __slots__ = ("_function", "_future")

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function
        self._future: Future[Any] | None = None

    def park(self, task: Waiter) -> None:
        super().park(task)
        loop = task.loop

        def finished(future: "Future[Any]") -> None:  # on the helper thread
            with contextlib.suppress(RuntimeError):  # the loop has ended: nothing waits any more
                loop.post(lambda: self._deliver(future))

        self._future = thread_pool().submit(self._function)
        self._future.add_done_callback(finished)

    def _deliver(self, future: "Future[Any]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.wake(future.result())
        else:
            self.fail(error)

    def unpark(self) -> None:
        super().unpark()
        if self._future is not None:
            self._future.cancel()  # a call that has begun continues; its result is dropped


async def sleep(seconds: float) -> None:
    """Waits `seconds` without blocking the worker. With 0, callables that are ready run first."""
    await _Sleep(seconds)


async def to_thread[**P, T](function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `function(*args, **kwargs)` on a helper thread, returns its result and raises its exception.

    The function sees a copy of the caller's context variables, as with `asyncio.to_thread`. Cancelling the wait does
    not stop a function that has begun. The process has at most `min(32, CPUs + 4)` helper threads, shared by all
    workers (the default of `concurrent.futures`); further calls wait for a free one. Raises RuntimeError while the
    interpreter ends.
    """
    context = contextvars.copy_context()
    result: T = await _ThreadCall(lambda: context.run(function, *args, **kwargs))
    return result


_thread_pool: "ThreadPoolExecutor | None" = None
_thread_pool_lock = threading.Lock()


def thread_pool() -> "ThreadPoolExecutor":
    """The helper threads of the process, made on first use: an application that never calls `to_thread` does not pay
    for them."""
    global _thread_pool
    with _thread_pool_lock:
        if _thread_pool is None:
            from concurrent.futures import ThreadPoolExecutor

            _thread_pool = ThreadPoolExecutor(thread_name_prefix=THREAD_NAME)
        return _thread_pool
