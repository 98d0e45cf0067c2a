"""Deadlines of one length, as a queue instead of a heap.

All deadlines of one length expire in the order in which they were set: the oldest is at the front, a new one goes to
the back. Arming and disarming is O(1), and a turn checks nothing before the loop's horizon. A server arms a deadline
for every request, and almost none of them expires.

Must never use an owner for anything but a key. Owner of a queue: the loop's thread.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol


class Clock(Protocol):
    """What a queue needs of the loop it belongs to."""

    now: float
    """Seconds of the loop's clock, as of this turn."""
    horizon: float
    """No timer and no deadline is due before this time. Arming an earlier one lowers it."""


class DeadlineQueue[Owner]:
    """At most one running deadline per owner (any hashable object), all of them `length` seconds long."""

    __slots__ = ("_armed", "_expired", "_loop", "length")

    def __init__(self, loop: Clock, length: float, expired: Callable[[Owner], object]) -> None:
        self._loop = loop
        self.length = length
        self._expired = expired
        self._armed: OrderedDict[Owner, float] = OrderedDict()

    def arm(self, owner: Owner) -> None:
        """Starts the owner's deadline, or starts it again if it is running."""
        loop = self._loop
        now = loop.now
        self._armed[owner] = now
        self._armed.move_to_end(owner)
        if now + self.length < loop.horizon:
            loop.horizon = now + self.length

    def disarm(self, owner: Owner) -> None:
        """Stops the owner's deadline if it is running."""
        self._armed.pop(owner, None)

    def armed_at(self, owner: Owner) -> float:
        """When the owner's deadline was started, in seconds of the loop's clock; minus infinity when it is not
        running."""
        return self._armed.get(owner, -math.inf)

    def armed_before(self, when: float) -> int:
        """How many deadlines were started before that time."""
        count = 0
        for armed_at in self._armed.values():
            if armed_at >= when:
                break
            count += 1
        return count

    def __iter__(self) -> Iterator[Owner]:
        """Owners of running deadlines, the next to expire first."""
        return iter(self._armed)

    def __len__(self) -> int:
        return len(self._armed)

    @property
    def due(self) -> float:
        """When the first deadline expires, in seconds of the loop's clock; infinity when none is running."""
        for armed_at in self._armed.values():
            return armed_at + self.length
        return math.inf

    def expire(self) -> None:
        """Calls `expired` for every owner whose deadline has passed."""
        armed = self._armed
        while armed and self.due <= self._loop.now:
            owner, _ = armed.popitem(last=False)
            self._expired(owner)

    def postpone(self, since: float, until: float) -> None:
        """Deadlines that were armed at `since` count as armed at `until`. They are the last ones in the queue."""
        late = []
        for owner in reversed(self._armed):
            if self._armed[owner] != since:
                break
            late.append(owner)
        for owner in late:
            self._armed[owner] = until
