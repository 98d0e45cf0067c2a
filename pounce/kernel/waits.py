"""What a plain application may wait for without asyncio: time, and a function in another thread."""

import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pounce.kernel.task import Cancellable, Parked, Wait

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

HELPER_NAME = "pounce-helper"


class _Sleep(Wait):
    __slots__ = ("_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._timer: Cancellable | None = None

    def park(self, task: Parked) -> None:
        super().park(task)
        self._timer = task.loop.call_later(self._seconds, self.wake)

    def leave(self) -> None:
        super().leave()
        if self._timer is not None:
            self._timer.cancel()


class _ThreadCall(Wait):
    __slots__ = ("_function", "_future")

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function
        self._future: Future[Any] | None = None

    def park(self, task: Parked) -> None:
        super().park(task)
        loop = task.loop

        def finished(future: "Future[Any]") -> None:  # in the helper thread
            with contextlib.suppress(RuntimeError):  # the loop ended first: nobody waits any more
                loop.post(lambda: self._report(future))

        self._future = helpers().submit(self._function)
        self._future.add_done_callback(finished)

    def _report(self, future: "Future[Any]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.wake(future.result())
        else:
            self.fail(error)

    def leave(self) -> None:
        super().leave()
        if self._future is not None:
            self._future.cancel()  # a call that has begun runs on; its result goes nowhere


async def sleep(seconds: float) -> None:
    """Waits `seconds` without holding up the worker. 0 lets everything else that is ready go first."""
    await _Sleep(seconds)


async def to_thread[**P, T](function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `function(*args, **kwargs)` in a helper thread and waits for what it returns or raises.

    The function sees a copy of the caller's context variables. Cancelling the wait does not stop a function
    that has begun.
    """
    context = contextvars.copy_context()
    result: T = await _ThreadCall(lambda: context.run(function, *args, **kwargs))
    return result


_helpers: "ThreadPoolExecutor | None" = None
_helpers_lock = threading.Lock()


def helpers() -> "ThreadPoolExecutor":
    """The helper threads of the process, shared by all workers and made on first use: an application that
    never calls `to_thread` does not pay for them."""
    global _helpers
    with _helpers_lock:
        if _helpers is None:
            from concurrent.futures import ThreadPoolExecutor

            _helpers = ThreadPoolExecutor(thread_name_prefix=HELPER_NAME)
        return _helpers
