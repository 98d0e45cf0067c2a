"""Collects changes until they have settled, and passes them on together.

One save is several changes: an editor moves the old file away, writes a new one and sets its mode; a change of branch
writes a thousand files. So changes are passed on when nothing has changed for a moment. A file that is missing or empty
has a little longer to come back, because that is how most editors begin. A tree that never rests is passed on anyway
after `MAX_WAIT`.

Owner: the loop's thread.
"""

from collections.abc import Callable

from pounce.kernel.loop import Loop, Timer
from pounce.watch.tree import State

QUIET = 0.02
"""Seconds without a change."""
RETURN = 0.1
"""Seconds that a missing or empty file has to come back."""
MAX_WAIT = 1.0
"""Seconds from the first change, at most."""


class Settling:
    """`on_change` gets the real paths of the files that have changed, at most once in `delay` seconds. `state` reads
    the state of a file. `catch_up` is called before the paths are passed on; it may call `add`."""

    def __init__(
        self,
        loop: Loop,
        on_change: Callable[[set[str]], object],
        delay: float,
        state: Callable[[str], State | None],
        catch_up: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._on_change = on_change
        self._delay = delay
        self._state = state
        self._catch_up = catch_up
        self._states: dict[str, State | None] = {}
        self._since = self._last = 0.0
        """When the first and the last of these changes came, and when the last ones were passed on (loop's clock)."""
        self._passed_on = -delay
        self._timer: Timer | None = None

    def add(self, paths: set[str]) -> None:
        if not paths:
            return
        self._last = self._loop.clock()
        if not self._states:
            self._since = self._last
        for path in paths:
            self._states[path] = self._state(path)
        if self._timer is None or self._timer.when > self._last + QUIET:
            self._check_at(self._last + QUIET)

    def _check_at(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        self._catch_up()
        now = self._loop.clock()
        when = min(self._settled_at(now), self._since + MAX_WAIT)
        when = max(when, self._passed_on + self._delay)
        if when > now:
            self._check_at(when)
            return
        self.close()
        paths = set(self._states)
        self._states.clear()
        self._passed_on = now
        self._on_change(paths)

    def _settled_at(self, now: float) -> float:
        """The earliest time at which the changes can have settled."""
        states = {path: self._state(path) for path in self._states}
        if states != self._states:
            self._states, self._last = states, now
        when = self._last + QUIET
        if any(state is None or state[1] == 0 for state in states.values()):
            when = max(when, self._since + RETURN)
        return when

    def close(self) -> None:
        """Passes nothing on, until the next change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
