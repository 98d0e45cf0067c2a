"""How a wait of the kernel suspends an asyncio task: by a future of the task's own loop.

Loading this module replaces `kernel.task.suspend` for the whole process. It must work in any loop: a program may await
a wait of the kernel in a loop that is no worker's. A coroutine that no asyncio loop drives yields its wait as before.

Must never be loaded before the program has imported asyncio. Owner: the thread that awaits.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from pounce.kernel import task as kernel_task
from pounce.kernel.task import TimerLoop, Wait


class _FutureWaiter:
    """What a wait wakes in place of a task of the kernel."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.loop: TimerLoop = _AsyncioTimers(loop)

    def resume(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _AsyncioTimers:
    """asyncio's loop, as waits of the kernel use one."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback)

    def post(self, callback: Callable[[], object]) -> object:
        return self._loop.call_soon_threadsafe(callback)


def suspend(wait: Wait, *, move: bool = False) -> Generator[Any, Any, object]:
    """Suspends the coroutine that runs now until the wait comes true. `move`: a task of the kernel was parked there,
    and this one takes its place."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield wait
        return None
    waiter = _FutureWaiter(loop)
    if move:
        wait.move(waiter)
    else:
        wait.park(waiter)
    if not wait.done:
        try:
            yield from waiter.future
        except BaseException:
            wait.unpark()
            raise
    return None


kernel_task.suspend = suspend
