"""What a server that stops still waits for, for the log.

    Waiting for connections to close. (CTRL+C to force quit)
    2 requests still running: GET /events, WebSocket /chat; 29 s left, Ctrl-C again to stop now

A shutdown that takes less than a second logs nothing.

Owner: the supervisor's thread.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable

from pounce.kernel.loop import Loop, Timer
from pounce.worker.census import InFlight

INTERVAL = 0.5
"""Seconds between two questions to the workers. Worker processes have answered the first when the second is asked."""
REPEAT_AFTER = 10.0
"""Seconds until a change is logged."""
MAX_NAMES = 5
"""Names in one line."""

logger = logging.getLogger("pounce.error")


class ShutdownProgress:
    """Logs what the workers have in flight while the server stops."""

    def __init__(self, loop: Loop, in_flight: Callable[[], Iterable[InFlight]]) -> None:
        """`in_flight` returns the last known answer of each worker that is alive, and asks each again."""
        self._loop = loop
        self._in_flight = in_flight
        self._deadline: float | None = None
        self._not_before = 0.0  # the time of the next line
        self._last_names: Counter[str] | None = None
        self._phase = ""
        self._timer: Timer | None = None

    def start(self, timeout: float | None) -> None:
        """The server stops. Requests have `timeout` seconds; None: no limit."""
        now = self._loop.clock()
        self._deadline = None if timeout is None else now + timeout
        self._not_before = now + INTERVAL * 1.5  # at the second report
        self._timer = self._loop.call_later(INTERVAL, self._report)
        self._in_flight()  # so that the first report has answers

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _report(self) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._report)
        names: Counter[str] = Counter()
        connections = 0
        for part in self._in_flight():
            names += part.names
            connections += part.connections
        now = self._loop.clock()
        if now < self._not_before or not (names or connections):
            return
        phase = "connections to close" if connections else "background tasks to complete"
        if phase != self._phase:
            logger.info("Waiting for %s. (CTRL+C to force quit)", phase)
            self._phase = phase
        elif names == self._last_names:
            return
        left = "waiting for ever" if self._deadline is None else f"{max(0.0, self._deadline - now):.0f} s left"
        what = _describe(names) if names else f"{connections} connection{'s' * (connections != 1)} still open"
        logger.info("%s; %s, Ctrl-C again to stop now", what, left)
        self._last_names = names
        self._not_before = now + REPEAT_AFTER


def _describe(names: Counter[str]) -> str:
    total = names.total()
    named = sorted(((name, count) for name, count in names.items() if name), key=lambda item: (-item[1], item[0]))
    words = [f"{_printable(name)} ({count})" if count > 1 else _printable(name) for name, count in named[:MAX_NAMES]]
    rest = total - sum(count for _, count in named[:MAX_NAMES])
    more = f" and {rest} more" if rest else ""
    return f"{total} request{'s' * (total != 1)} still running: {', '.join(words)}{more}"


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
