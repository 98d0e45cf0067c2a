"""Sees to it that every slot has somebody who accepts.

A worker may be blocked by its application, be starting, or have died; then a sibling accepts in its place. Only
what a blocked worker has begun waits for it: its running exchanges and the next requests on its connections.

Several times a second the watch asks each worker how long it has not turned its loop, and compares. It keeps no
state but what it has told people: a place in the code that blocks is a warning once, and at debug level after that.
With one worker nobody can accept in its place, and every slow line of a start would be a warning; there it becomes one
after a few seconds.

Owner: the supervisor's thread; where that is the only worker's as well, a thread of its own.
"""

import contextlib
import logging
import re
import signal
import threading
from collections.abc import Callable, Sequence

from pounce.kernel.loop import Loop, Timer
from pounce.supervisor.slot import Slot
from pounce.worker.balance import Board

CHECK_INTERVAL = 0.2
"""Seconds between two looks."""
BLOCKED = 0.6
"""Seconds without a turn after which a worker counts as blocked. With a look's delay that is within a second."""

PATIENCE = 5.0
"""Seconds for which the only worker may be blocked without a warning."""
MOST_STACKS = 100
"""Places in the code that are remembered. When there are more, it begins anew."""

_LINE = re.compile(r", line \d+")

logger = logging.getLogger("pounce.error")


class Watch:
    def __init__(
        self,
        loop: Loop,
        slots: Sequence[Slot],
        board: Board | None,
        patience: float | None,
        lose: Callable[[Slot], object],
    ) -> None:
        """`lose` is called with the slot of a worker that has been blocked for `patience` seconds (None: never)."""
        self._loop = loop
        self._places = slots
        self._board = board
        self._patience = patience
        self._lose = lose
        self._timer: Timer | None = None
        self._stacks: set[str] = set()
        """Where workers were blocked when that was a warning, without the numbers of the lines: a loop has many."""

    def start(self) -> None:
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._look)
        alone = sum(not slot.vacant for slot in self._places) == 1
        news = [(slot, level) for slot in self._places if (level := self._examine(slot, alone))]
        for slot in self._places:
            self._cover(slot)
        for slot, level in news:  # last, because it takes a while
            slot.told = level
            if logger.isEnabledFor(level):
                self._tell(slot, level, alone)

    def _examine(self, slot: Slot, alone: bool) -> int:
        """The level of what is new of the worker there; 0 if it is not blocked, or that has been looked at."""
        now = self._loop.clock()
        worker = slot.worker
        if worker is None or not slot.ready:
            self._mark(slot, None)
            return 0
        waited = worker.blocked_for(now)
        if waited < BLOCKED:
            if slot.blocked_at is not None:
                level = logging.INFO if slot.warned else logging.DEBUG
                logger.log(level, "Worker %d turns again, after %.1f s.", slot.number + 1, now - slot.blocked_at)
                self._mark(slot, None)
            return 0
        if worker.hung or (self._patience is not None and waited >= self._patience):
            why = "nothing in it has answered" if worker.hung else "blocked"
            logger.error("Worker %d (%s) is lost, %s for %.1f s.", slot.number + 1, worker.name, why, waited)
            self._mark(slot, None)
            self._lose(slot)
            return 0
        if slot.blocked_at is None:
            self._mark(slot, now - waited)
        level = logging.DEBUG if alone and waited < PATIENCE else logging.WARNING
        return level if level > slot.told else 0

    def _mark(self, slot: Slot, blocked_at: float | None) -> None:
        slot.blocked_at = blocked_at
        if blocked_at is None:
            slot.told, slot.warned = 0, False
        if self._board is not None and slot.number < self._board.size:
            self._board.blocked[slot.number] = blocked_at is not None

    def _cover(self, slot: Slot) -> None:
        able = [other for other in self._places if other.able]
        if slot.able:
            wanted = None
        elif slot.helper in able:
            wanted = slot.helper
        else:
            wanted = able[slot.number % len(able)] if able else None
        if slot.helper is not wanted and slot.helper is not None and slot.helper.worker is not None:
            slot.helper.worker.step_back(slot.number)
        slot.helper = wanted
        if wanted is not None and wanted.worker is not None:
            # Said at every look: something may have been handed to the blocked one meanwhile, and the helper's
            # worker may be another one by now.
            wanted.worker.stand_in(slot.number)

    def _tell(self, slot: Slot, level: int, alone: bool) -> None:
        worker = slot.worker
        assert worker is not None
        assert slot.blocked_at is not None
        seconds = self._loop.clock() - slot.blocked_at
        request, stack = worker.describe()
        if level == logging.WARNING:
            level = self._level(stack)
            slot.warned = level == logging.WARNING
        if slot.helper is not None:
            outcome = f"worker {slot.helper.number + 1} accepts in its place"
        elif alone:
            outcome = "it is the only one, so every other client waits until that is over"
        else:
            outcome = "nobody accepts in its place"
        logger.log(
            level, "Worker %d (%s) has been blocked for %.1f s by %s; %s.%s",
            slot.number + 1, worker.name, seconds, request, outcome, "\n" + stack if stack else "",
        )  # fmt: skip

    def _level(self, stack: str) -> int:
        """A warning if nobody has been blocked in this slot yet."""
        functions = _LINE.sub("", stack)
        if functions and functions in self._stacks:
            return logging.DEBUG
        if len(self._stacks) >= MOST_STACKS:
            self._stacks.clear()
        self._stacks.add(functions)
        return logging.WARNING


class WatchThread:
    """A watch on a thread of its own, for a worker that shares its thread with the supervisor. It only looks, and says
    what it sees. The slots are not its own: it reads whether there is a worker and whether that is ready, each in one
    step."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._loop = Loop()
        self._main = threading.get_ident()
        self._places = slots
        self._over = False
        self._watch = Watch(self._loop, slots, None, None, lambda _place: None)
        self._thread = threading.Thread(target=self._run, name="pounce-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has stopped already
            self._loop.post(self._end)

    def signalled(self, heard: Callable[[], bool], patience: float | None) -> None:
        """A signal asks the server to end, which its loop should get to at once. Called by the handler."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.post(lambda: self._loop.call_later(CHECK_INTERVAL, lambda: self._complain(heard, patience)))

    def _complain(self, heard: Callable[[], bool], patience: float | None) -> None:
        if heard():
            return
        worker = self._places[0].worker
        request = worker.describe()[0] if worker is not None else "something"
        logger.warning("Shutting down once %s lets go of the server's thread (CTRL+C to interrupt it)", request)
        if patience is not None:
            self._loop.call_later(patience, lambda: self._interrupt(heard))

    def _interrupt(self, heard: Callable[[], bool]) -> None:
        if not heard():
            signal.pthread_kill(self._main, signal.SIGTERM)

    def _end(self) -> None:
        self._over = True

    def _run(self) -> None:
        self._watch.start()
        while not self._over:
            self._loop.turn()
        self._loop.close()
