"""The event loop of one thread.

A turn is always the same four steps:

1. select      wait until a descriptor is ready, something is due, or another thread has posted
2. readiness   call what is registered for each ready descriptor
3. due         call the timers and deadlines whose time has come
4. ready       call what stood in the ready deque when this step began, and no more: what is added meanwhile
               waits for the next turn, so that no callback can starve the descriptors

Nothing is caught here. An exception from a callback leaves `turn`, and what the turn had not yet done is still
there for the next one: readiness is level-triggered, timers and ready callables are removed one at a time. So
the owner may log the error and turn again.

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
"""What a selector says of a ready descriptor."""

LONG_TURN = 0.05
"""Seconds; in a shorter turn the difference between its beginning and its end does not matter to a deadline."""

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
LONGEST_WAIT = 86400.0  # seconds; epoll takes milliseconds in 32 bits


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Timer:
    """One call at one time, in seconds of the loop's clock. `cancel` is the only thing to do with it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """The call will not be made. The entry leaves the heap when its time comes."""
        self.callback = None


class Loop:
    """Descriptors, timers, deadlines and ready callables of one thread.

    `now` is the time at which the current turn woke up, in seconds of `clock`: reading it costs nothing, and
    everything that happens in one turn happens at one time.
    """

    pipe: tuple[int, ...] = ()
    """What wakes it; empty where there was no free descriptor for one."""

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
        # No timer and no deadline is due before this; a lower bound, made exact when it is reached.
        self.horizon = math.inf
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._queues: list[DeadlineQueue[object]] = []
        self.coroutine: Any = None
        self.context: Any = None
        """The coroutine whose step was begun last on this thread, and its context."""
        self.adopt: Callable[..., Any] | None = None
        """Set when another scheduler has taken over. Called for a coroutine that would wait, with: the coroutine,
        what it waits for, what to throw into it instead of going on, what to call at its end, its context."""
        self._posted: deque[Callback] = deque()
        self._woken = False
        self.selector.register(self._wake_reader, READ, self._take_posted)
        self.closed = False

    # Descriptors

    def watch(self, fd: int | HasFileno, events: int, callback: ReadyCallback) -> None:
        """Calls `callback(events)` in every turn in which `fd` is ready for one of `events`."""
        self.selector.register(fd, events, callback)

    def rewatch(self, fd: int | HasFileno, events: int, callback: ReadyCallback) -> None:
        """Changes what a watched descriptor is watched for."""
        self.selector.modify(fd, events, callback)

    def unwatch(self, fd: int | HasFileno) -> None:
        """Ends watching; must come before the descriptor is closed."""
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
        """A queue of deadlines that all last `length` seconds; `expired(owner)` is called for each that is
        neither disarmed nor armed again in time. None makes deadlines that never expire."""
        queue = DeadlineQueue(self, math.inf if length is None else length, expired)
        self._queues.append(queue)  # type: ignore[arg-type]  # the loop never looks at an owner
        return queue

    def post(self, callback: Callback) -> None:
        """Calls `callback` on the loop's thread, from any thread. Wakes the loop once per batch.

        Raises RuntimeError when the loop is closed: nobody would ever call it. What comes between its last turn and
        its close is dropped.
        """
        # The order matters and needs no lock: append first, then look at the flag. The loop clears the flag
        # first and then pops until the deque is empty. Both touch the deque under its own lock, so either the
        # pop sees the item, or this thread sees the cleared flag and wakes the loop again.
        if self.closed:
            raise RuntimeError("the loop is closed")
        self._posted.append(callback)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(BlockingIOError):  # a pipe full of wake-ups: one is enough
                os.write(self._wake_writer, b"\0")

    @property
    def wakeup_fd(self) -> int:
        """What signal.set_wakeup_fd may write to, so that a signal ends the wait in `select`."""
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
        """Takes one turn. Waits at most `timeout` seconds for something to happen, for ever if None.

        Returns what was ready for somebody else: a descriptor registered with the selector by other means than
        `watch` carries no callable, and whoever turns this loop as a part of their own gets its events back.
        """
        before = self.clock()
        if before - self.now > LONG_TURN:
            self._excuse(before)
        ready = self._ready
        if ready:
            timeout = 0.0
        elif self.horizon != math.inf:
            wait = min(self.horizon - before, LONGEST_WAIT)
            if timeout is None or wait < timeout:
                timeout = wait
        self._waits_since = before
        events = self.selector.select(timeout)
        now = self.now = self.clock()
        foreign: list[Ready] = []
        for event in events:
            key, mask = event
            callback = key.data
            if callback.__class__ is tuple:
                foreign.append(event)
            else:
                callback(mask)
        if now >= self.horizon:
            self._run_due()
        for _ in range(len(ready)):
            ready.popleft()()
        return foreign

    @property
    def busy_since(self) -> float:
        """When the loop woke up for what it is doing now, in seconds of its clock; infinity while it waits in
        `select`. Any thread may ask: one thread writes the two numbers, each as a whole."""
        waits_since = self._waits_since
        now = self.now
        return now if now > waits_since else math.inf

    def _excuse(self, now: float) -> None:
        """The last turn was long, because something in it has blocked: whoever has a deadline since then gets
        the time back that was not theirs."""
        for queue in self._queues:
            queue.postpone(self.now, now)

    def _run_due(self) -> None:
        now, timers = self.now, self._timers
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            callback = timer.callback
            if callback is not None:
                timer.callback = None  # whoever is called may hold the timer
                callback()
        for queue in self._queues:
            queue.expire()
        horizon = min((queue.due for queue in self._queues), default=math.inf)
        self.horizon = min(horizon, timers[0][0]) if timers else horizon

    def close(self) -> None:
        """Ends the loop. Callables that were still waiting are dropped."""
        self.closed = True
        self.selector.close()

    def __del__(self) -> None:
        # Not in `close`: another thread may be in the middle of `post`, and the number of a closed descriptor
        # may already be somebody else's file. Nobody can be in `post` when nobody holds the loop.
        for fd in self.pipe:
            os.close(fd)
