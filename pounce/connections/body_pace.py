"""How fast content has to come: nothing is asked of a client at first, then a least rate.

Owner: one worker's thread.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pounce.config.config import Config
from pounce.kernel.deadlines import DeadlineQueue
from pounce.kernel.loop import Loop

if TYPE_CHECKING:
    from pounce.connections.http1 import HTTP1Connection


class BodyPace:
    """The deadlines of all connections of a worker: a long `first` one, and then, again and again, one of a `second`,
    which costs as many bytes as the least rate brings in that time."""

    def __init__(self, loop: Loop, config: Config, expired: "Callable[[HTTP1Connection], object]") -> None:
        time = config.timeout_request_body
        self.first: DeadlineQueue[HTTP1Connection] = loop.deadlines(time, expired)
        self.second: DeadlineQueue[HTTP1Connection] = loop.deadlines(1.0, expired)
        self._rate = config.limit_request_body_rate  # bytes per second
        self._most = self._rate * (time or 0)  # what has come pays for as long as the first one was, not longer

    def pay(self, came: float, deadline: "DeadlineQueue[HTTP1Connection] | None") -> float:
        """What is left of the bytes that have come, now that this deadline has expired; less than 0 for too little."""
        left = min(came - (self._rate if deadline is self.second else 0), self._most)
        return left if left > 0 or not self._rate else -1
