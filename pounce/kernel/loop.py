"""The event loop of one thread: descriptors, timers, deadlines and ready callables.

A turn is always the same four steps:

1. select      wait until a descriptor is ready, something is due, or another thread has posted
2. readiness   call what is registered for each ready descriptor
3. due         call the timers and deadlines whose time has come
4. ready       call what is in the ready deque when this step begins; callables that are added meanwhile wait
               for the next turn, so that no callback can starve the descriptors

The loop must never catch an exception. One that a callback raises comes out of `turn`, and the rest of that turn is
still there for the next one: readiness is level-triggered, timers and ready callables are removed one at a time. So the
owner may log the error and turn again.

A loop is open, then closed. Only `post` checks which, because only the owner calls the other methods.

Owner: the thread that turns it. Another thread may do exactly one thing to a loop: `post`.
"""

import contextlib
import heapq
import math
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pounce.kernel.deadlines import DeadlineQueue

type Callback = Callable[[], object]
type ReadyCallback = Callable[[int], object]
"""Called with the ready events, a mask of selectors.EVENT_READ and EVENT_WRITE."""

type Ready = tuple[selectors.SelectorKey, int]
"""A ready descriptor and its events, as a selector returns them."""

LONG_TURN = 0.05
"""Seconds. A turn that took longer than this postpones the deadlines that were armed in it."""

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
MAX_WAIT = 86400.0  # seconds; epoll takes milliseconds in 32 bits


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Timer:
    """One call at one time, in seconds of the loop's clock. Its user may only `cancel` it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """The call will not be made. The entry leaves the heap when its time comes."""
        self.callback = None


class Loop:
    """`now` is the time at which the current turn woke up, in seconds of `clock`. Reading it costs nothing, and
    everything that happens in one turn happens at one time.

    Raises OSError when the process has no free descriptors.
    """

    pipe: tuple[int, ...] = ()
    """A byte in it wakes the loop. Empty when the constructor has failed for want of descriptors."""

    def __init__(
        self, selector: selectors.BaseSelector | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # A pipe and not an eventfd: signal.set_wakeup_fd writes single bytes.
        self.pipe = self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self.selector = selector if selector is not None else selectors.DefaultSelector()
        self.clock = clock
        self.now = clock()
        self._waits_since = -math.inf
        self.horizon = math.inf
        """No timer and no deadline is due before this time: a lower bound, made exact when it is reached."""
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._queues: list[DeadlineQueue[object]] = []
        self.coroutine: Any = None
        self.context: Any = None
        """The coroutine whose step was begun last on this thread, and its context."""
        self.migrate: Callable[..., Any] | None = None
        """Set by another scheduler that drives the coroutines from then on. Called for a coroutine that would wait,
        with: the coroutine, what it waits for, what to throw into it instead of continuing, what to call at its end,
        its context."""
        self._posted: deque[Callback] = deque()
        self._woken = False
        self.selector.register(self._wake_reader, READ, self._take_posted)
        self.closed = False

    # Descriptors

    def watch(self, fd: int | HasFileno, events: int, callback: ReadyCallback) -> None:
        """Calls `callback(events)` in every turn in which `fd` is ready for one of `events`."""
        self.selector.register(fd, events, callback)

    def rewatch(self, fd: int | HasFileno, events: int, callback: ReadyCallback) -> None:
        """Changes the events and the callback of a watched descriptor."""
        self.selector.modify(fd, events, callback)

    def unwatch(self, fd: int | HasFileno) -> None:
        """Ends watching. Must be called before the descriptor is closed."""
        self.selector.unregister(fd)

    # Calls

    def call_soon(self, callback: Callback) -> None:
        """Calls `callback` in step 4 of this turn, or of the next one when this turn is in step 4."""
        self._ready.append(callback)

    def call_at(self, when: float, callback: Callback) -> Timer:
        """Calls `callback` once, not before `when` (seconds of the loop's clock)."""
        timer = Timer(when, callback)
        self._timer_count += 1  # keeps timers of the same time in the order in which they were set
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        if when < self.horizon:
            self.horizon = when
        return timer

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Calls `callback` once, not before `delay` seconds from now."""
        return self.call_at(self.clock() + delay, callback)

    def deadlines[Owner](self, length: float | None, expired: Callable[[Owner], object]) -> DeadlineQueue[Owner]:
        """A queue of deadlines that all last `length` seconds. `expired(owner)` is called for each that is neither
        disarmed nor armed again in time. With None they never expire."""
        queue = DeadlineQueue(self, math.inf if length is None else length, expired)
        self._queues.append(queue)  # type: ignore[arg-type]  # the loop does not use the owners
        return queue

    def post(self, callback: Callback) -> None:
        """Calls `callback` on the loop's thread, from any thread. Wakes the loop once per batch.

        Raises RuntimeError when the loop is closed, because nothing would call it. A callback that is posted between
        the loop's last turn and its close is dropped.
        """
        # The order makes a lock unnecessary: append first, then read the flag. The loop clears the flag first and
        # then pops until the deque is empty. Both use the deque under its own lock, so either the pop sees the item,
        # or this thread sees the cleared flag and wakes the loop again.
        if self.closed:
            raise RuntimeError("the loop is closed")
        self._posted.append(callback)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(BlockingIOError):  # a pipe full of wake-ups: one is enough
                os.write(self._wake_writer, b"\0")

    @property
    def wakeup_fd(self) -> int:
        """The descriptor for signal.set_wakeup_fd, so that a signal ends the wait in `select`."""
        return self._wake_writer

    def _take_posted(self, _events: int) -> None:
        os.read(self._wake_reader, 4096)
        self._woken = False
        ready, posted = self._ready, self._posted
        while True:
            try:
                ready.append(posted.popleft())
            except IndexError:
                return

    # Turning

    def turn(self, timeout: float | None = None) -> list[Ready]:
        """Takes one turn. Waits at most `timeout` seconds for something to happen, or without limit if None.

        Returns the events it has not handled: those of descriptors that were registered with the selector by other
        means than `watch`, with a tuple in place of a callable. A loop that turns this one as a part of its own turn
        handles them.
        """
        before = self.clock()
        if before - self.now > LONG_TURN:
            self._postpone_deadlines(before)
        ready = self._ready
        if ready:
            timeout = 0.0
        elif self.horizon != math.inf:
            wait = min(self.horizon - before, MAX_WAIT)
            if timeout is None or wait < timeout:
                timeout = wait
        self._waits_since = before
        events = self.selector.select(timeout)
        now = self.now = self.clock()
        unhandled: list[Ready] = []
        for event in events:
            key, mask = event
            callback = key.data
            if callback.__class__ is tuple:
                unhandled.append(event)
            else:
                callback(mask)
        if now >= self.horizon:
            self._run_due()
        for _ in range(len(ready)):
            ready.popleft()()
        return unhandled

    @property
    def busy_since(self) -> float:
        """When the loop woke up for the present turn, in seconds of its clock; infinity while it waits in `select`.
        Any thread may ask: one thread writes the two numbers, each in a single store."""
        waits_since = self._waits_since
        now = self.now
        return now if now > waits_since else math.inf

    def _postpone_deadlines(self, now: float) -> None:
        """The last turn was long, because something in it has blocked. The deadlines that were armed in it begin
        after it, because the time it took was not the clients'."""
        for queue in self._queues:
            queue.postpone(self.now, now)

    def _run_due(self) -> None:
        now, timers = self.now, self._timers
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            callback = timer.callback
            if callback is not None:
                timer.callback = None  # the callback may hold the timer
                callback()
        for queue in self._queues:
            queue.expire()
        horizon = min((queue.due for queue in self._queues), default=math.inf)
        self.horizon = min(horizon, timers[0][0]) if timers else horizon

    def close(self) -> None:
        """Ends the loop. Callables that still wait are dropped."""
        self.closed = True
        self.selector.close()

    def __del__(self) -> None:
        # Not in `close`: another thread may be in the middle of `post`, and the number of a closed descriptor may
        # already belong to another file. No thread can be in `post` when nothing references the loop.
        for fd in self.pipe:
            os.close(fd)
