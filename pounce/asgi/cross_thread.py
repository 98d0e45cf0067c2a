"""Calls of `receive` and `send` that an application makes on another thread than the one that owns the exchange: a
broadcast to WebSockets of all workers, a helper thread with an event loop of its own.

What an exchange is made of belongs to one thread, and no lock protects it. So such a call is carried out on the owner's
loop, and awaited where it was made:

    caller's thread    park ─ post ─►  owner's thread     begin, as a coroutine of the owner's scheduler
                       deliver ◄─ post ─                  done, with what it returned or raised

Calls of one sender arrive in its order, because loops keep the order of what is posted. A caller that is cancelled no
longer waits: a message that was not sent yet never is, one that has been taken for it is given back. When the owner has
ended, the call raises ClientDisconnected.

Owner: of `CrossThreadCalls`, the worker's thread; of a `CrossThreadCall`, the thread that awaits it, but for the
methods under "On the owner's thread".
"""

import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from pounce.errors import ClientDisconnected
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver, TimerLoop, Wait, Waiter


class Scheduler(Protocol):
    @property
    def spawn(self) -> Callable[..., Driver | None]:
        """See `kernel.task.spawn`."""


class CrossThreadCalls:
    """The calls that other threads have made of the exchanges of one worker."""

    def __init__(self, loop: Loop, scheduler: Scheduler) -> None:
        self.thread = 0
        """The worker's, as `threading.get_ident` says."""
        self.loop = loop
        self.scheduler = scheduler
        self.waiting: set[CrossThreadCall] = set()  # any thread adds and takes out, each in one step
        self.ended = False

    def begin(self) -> None:
        """This thread is the worker's."""
        self.thread = get_ident()

    async def call[T](
        self, method: Callable[..., Coroutine[Any, Any, T]], *arguments: object,
        on_unused: Callable[[T], object] | None = None,
    ) -> T:  # fmt: skip
        """Calls `method(*arguments)` on the worker's thread. `on_unused` is called there with the result, where the
        caller has been cancelled meanwhile. Raises what the method raises, and ClientDisconnected when the worker has
        ended."""
        call = CrossThreadCall(self, partial(method, *arguments), on_unused)
        try:
            result: T = await call
        except BaseException:
            call.drop()
            raise
        return result

    def end(self) -> None:
        """The worker carries out nothing more."""
        self.ended = True
        for call in list(self.waiting):
            call.finished(None, ClientDisconnected("the worker has ended"))


class CrossThreadCall(Wait):
    __slots__ = ("_caller_loop", "_calls", "_driver", "_dropped", "_method", "_on_unused", "_result")

    def __init__(
        self,
        calls: CrossThreadCalls,
        method: Callable[[], Coroutine[Any, Any, Any]],
        on_unused: Callable[[Any], object] | None,
    ) -> None:
        super().__init__()
        self._calls = calls
        self._method = method
        self._on_unused = on_unused
        self._caller_loop: TimerLoop | None = None  # the loop that awaits it
        self._dropped = False  # is it awaited no more?
        self._driver: Driver | None = None  # the owner's
        self._result: object = None  # what it has returned; the owner's

    def park(self, task: Waiter) -> None:
        super().park(task)
        self._caller_loop = task.loop
        calls = self._calls
        calls.waiting.add(self)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            calls.loop.post(self._begin)
        if calls.ended:  # checked last: `end` sets it first, and then goes through what waits
            self._deliver(None, ClientDisconnected("the worker has ended"))

    def drop(self) -> None:
        """It is awaited no more."""
        self._dropped = True
        with contextlib.suppress(RuntimeError):  # before anything else that this caller posts
            self._calls.loop.post(self._cancel)

    def _deliver(self, value: object, error: BaseException | None) -> None:
        self._calls.waiting.discard(self)
        if error is None:
            self.wake(value)
        else:
            self.fail(error)

    # On the owner's thread

    def _begin(self) -> None:
        if self._dropped or self._calls.ended:
            self._calls.waiting.discard(self)
        else:
            self._driver = self._calls.scheduler.spawn(self._method(), self.finished)

    def _cancel(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
        elif self._result is not None and self._on_unused is not None:
            self._on_unused(self._result)

    def finished(self, value: object, error: BaseException | None) -> None:
        """It has returned `value` or raised `error`, or never will."""
        self._driver = None
        self._result = value
        if error is not None and not issubclass(type(error), Exception):  # what ends the worker ends not its caller
            error = ClientDisconnected("the worker has ended")
        assert self._caller_loop is not None
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed
            self._caller_loop.post(partial(self._deliver, value, error))
