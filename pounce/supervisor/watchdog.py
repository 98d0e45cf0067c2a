"""The watchdog: for each slot there is a worker that accepts.

A worker may be blocked by its application, be starting, or have failed; then a sibling accepts from its sockets, too.
Only what a blocked worker has begun waits for it: its requests in flight and the next ones on its connections.

The watchdog asks each worker several times a second how long it has not turned its loop. The first block at one place
in the code is a warning, every further one there is logged at debug level. Where there is only one worker, no sibling
can accept, and each slow line of the application's start would be a warning; there it becomes one after a few seconds.

Owner: the supervisor's thread; where that runs the only worker, too, a thread of its own.
"""

import contextlib
import logging
import re
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

from pounce.kernel.loop import Loop, Timer
from pounce.supervisor.handle import CHECK_INTERVAL
from pounce.supervisor.slot import Slot, SlotState
from pounce.worker.balance import Balancer

BLOCKED_AFTER = 0.6
"""Seconds without a turn after which a worker counts as blocked. With a scan's delay that is within a second."""
SINGLE_WARNING_AFTER = 5.0
"""Seconds for which the only worker may be blocked without a warning."""
MAX_STACKS = 100
"""Places in the code that are kept. One more, and all of them are discarded."""

_LINE_NUMBER = re.compile(r", line \d+")

logger = logging.getLogger("pounce.error")


class _Watched:
    """What the watchdog knows of one slot."""

    def __init__(self) -> None:
        self.blocked_at: float | None = None
        """Since when its worker is blocked, by the loop's clock; None: it is not."""
        self.covered_by: Slot | None = None
        """The slot whose worker accepts for it."""
        self.logged_level = 0
        """The level at which the block was last logged, or would have been; 0: not yet."""
        self.warning_logged = False


class Watchdog:
    def __init__(
        self,
        loop: Loop,
        slots: Sequence[Slot],
        balancer: Balancer | None,
        stuck_timeout: float | None,
        on_give_up: Callable[[Slot], object],
    ) -> None:
        """`on_give_up` is called with the slot of a worker that has been blocked for `stuck_timeout` seconds (None:
        never), or that is hung."""
        self._loop = loop
        self._slots = slots
        self._balancer = balancer
        self._stuck_timeout = stuck_timeout
        self._on_give_up = on_give_up
        self._watched: defaultdict[int, _Watched] = defaultdict(_Watched)
        """By the slot's number."""
        self._timer: Timer | None = None
        self._to_log: list[tuple[Slot, int, bool]] = []
        """Blocks that are to be logged, with the level, and whether the worker is the only one."""
        self._stacks: set[str] = set()
        """Where workers were blocked when that was a warning, without line numbers: a Python loop has many."""

    def start(self) -> None:
        self._scan()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def on_signal(self, handled: Callable[[], bool], timeout: float | None) -> None:
        """No worker can keep the supervisor's loop from handling a signal: see `WatchdogThread.on_signal`."""

    def blocked_at(self, slot: Slot) -> float | None:
        """Since when its worker is blocked, by the loop's clock; None: it is not."""
        return self._watched[slot.number].blocked_at

    def _scan(self) -> None:
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._scan)
        single = sum(slot.state is not SlotState.REMOVED for slot in self._slots) == 1
        changes = [(slot, level) for slot in self._slots if (level := self._check(slot, single))]
        for slot in self._slots:
            self._update_cover(slot)
        for slot, level in changes:
            self._watched[slot.number].logged_level = level
            if logger.isEnabledFor(level):
                self._to_log.append((slot, level, single))
                if len(self._to_log) == 1:
                    self._loop.call_soon(self._log_next)

    def _log_next(self) -> None:
        """One in a turn, because a stack takes a while, and there are clients of the admin listener."""
        slot, level, single = self._to_log.pop(0)
        if self._to_log:
            self._loop.call_soon(self._log_next)
        if self._watched[slot.number].blocked_at is not None:
            self._log_blocked(slot, level, single)

    def _check(self, slot: Slot, single: bool) -> int:
        """The level at which a change of its worker is to be logged; 0: none, or it has been logged."""
        now = self._loop.clock()
        worker, watched = slot.worker, self._watched[slot.number]
        if worker is None or not slot.ready:
            self._set_blocked(slot, None)
            return 0
        waited = worker.blocked_for(now)
        if waited < BLOCKED_AFTER:
            if watched.blocked_at is not None:
                level = logging.INFO if watched.warning_logged else logging.DEBUG
                logger.log(level, "Worker %d responds again, after %.1f s.", slot.number + 1, now - watched.blocked_at)
                self._set_blocked(slot, None)
            return 0
        if worker.hung or (self._stuck_timeout is not None and waited >= self._stuck_timeout):
            why = "nothing in it has answered" if worker.hung else "blocked"
            logger.error("Worker %d (%s) is given up, %s for %.1f s.", slot.number + 1, worker.name, why, waited)
            self._set_blocked(slot, None)
            self._on_give_up(slot)
            return 0
        if watched.blocked_at is None:
            self._set_blocked(slot, now - waited)
        level = logging.DEBUG if single and waited < SINGLE_WARNING_AFTER else logging.WARNING
        return level if level > watched.logged_level else 0

    def _set_blocked(self, slot: Slot, blocked_at: float | None) -> None:
        watched = self._watched[slot.number]
        watched.blocked_at = blocked_at
        if blocked_at is None:
            watched.logged_level, watched.warning_logged = 0, False
        if self._balancer is not None and slot.number < self._balancer.size:
            self._balancer.blocked[slot.number] = blocked_at is not None

    def _accepts(self, slot: Slot) -> bool:
        return slot.worker is not None and slot.ready and self._watched[slot.number].blocked_at is None

    def _update_cover(self, slot: Slot) -> None:
        watched = self._watched[slot.number]
        accepting = [other for other in self._slots if self._accepts(other)]
        if slot in accepting:
            wanted = None
        elif watched.covered_by in accepting:
            wanted = watched.covered_by
        else:
            wanted = accepting[slot.number % len(accepting)] if accepting else None
        before, watched.covered_by = watched.covered_by, wanted
        if before is not wanted and before is not None and before.worker is not None:
            before.worker.stop_accepting_for(slot.number)
        if wanted is not None and wanted.worker is not None:
            # At every scan: more may have been handed to the blocked worker, and the covering slot's worker may be new.
            wanted.worker.accept_for(slot.number)

    def _log_blocked(self, slot: Slot, level: int, single: bool) -> None:
        worker, watched = slot.worker, self._watched[slot.number]
        assert worker is not None
        assert watched.blocked_at is not None
        seconds = self._loop.clock() - watched.blocked_at
        request, stack = worker.describe_block()
        if level == logging.WARNING:
            level = self._level_of(stack)
            watched.warning_logged = level == logging.WARNING
        if watched.covered_by is not None:
            outcome = f"worker {watched.covered_by.number + 1} accepts in its place"
        elif single:
            outcome = "it is the only one, so every other client waits until that is over"
        else:
            outcome = "no worker accepts in its place"
        logger.log(
            level, "Worker %d (%s) has been blocked for %.1f s by %s; %s.%s",
            slot.number + 1, worker.name, seconds, request, outcome, "\n" + stack if stack else "",
        )  # fmt: skip

    def _level_of(self, stack: str) -> int:
        """A warning if no worker has been blocked at this place yet."""
        functions = _LINE_NUMBER.sub("", stack)
        if functions and functions in self._stacks:
            return logging.DEBUG
        if len(self._stacks) >= MAX_STACKS:
            self._stacks.clear()
        self._stacks.add(functions)
        return logging.WARNING


class WatchdogThread:
    """A watchdog on a thread of its own, for a worker that shares its thread with the supervisor. It changes no slot:
    it reads whether there is a worker and whether that is ready, each in one step, and writes to the log."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._loop = Loop()
        self._supervisor_thread = threading.get_ident()
        self._slots = slots
        self._stopped = False
        self._watchdog = Watchdog(self._loop, slots, None, None, lambda _slot: None)
        self._thread = threading.Thread(target=self._run, name="pounce-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has stopped
            self._loop.post(self._stop)

    def blocked_at(self, slot: Slot) -> None:
        """None: the worker's own thread asks."""

    def on_signal(self, handled: Callable[[], bool], timeout: float | None) -> None:
        """The server has to stop; `handled` tells whether the supervisor's loop has read that. Code that keeps the loop
        from it for `timeout` seconds is interrupted by another signal. Called by the signal's handler."""
        with contextlib.suppress(RuntimeError):  # it has stopped
            self._loop.post(lambda: self._loop.call_later(CHECK_INTERVAL, lambda: self._warn(handled, timeout)))

    def _warn(self, handled: Callable[[], bool], timeout: float | None) -> None:
        if handled():
            return
        worker = self._slots[0].worker
        request = worker.describe_block()[0] if worker is not None else "something"
        logger.warning("Shutting down once %s returns; it blocks the server's thread (CTRL+C to interrupt it)", request)
        if timeout is not None:
            self._loop.call_later(timeout, lambda: self._interrupt(handled))

    def _interrupt(self, handled: Callable[[], bool]) -> None:
        if not handled():
            signal.pthread_kill(self._supervisor_thread, signal.SIGTERM)

    def _stop(self) -> None:
        self._stopped = True

    def _run(self) -> None:
        self._watchdog.start()
        while not self._stopped:
            self._loop.turn()
        self._loop.close()
