"""How many requests of a worker run at a time, and how long each may.

With `--limit-concurrency` alone a request too many is answered 503, as by uvicorn. With `--limit-queue` it waits for
its turn, in order of arrival, no longer than `--queue-timeout`; what finds the queue full, or waits too long, gets 503
with Retry-After: the time that the queue takes now. The way through the queue is measured, and told when it is over.

`--timeout-request` ends a request that is not answered in time: by 504, or by cutting the connection when a part of
the response is under way. What goes on after its response is complete keeps no client waiting, and is left alone.

Looked at by requests only where one of the two is set, and by those that never wait only for the first.

Owner: the worker's thread.
"""

import logging
from collections.abc import Sized
from math import ceil, inf

from pounce.asgi.exchange import Exchange
from pounce.config.config import Config
from pounce.kernel.loop import Loop

PER_TURN = 32
"""Requests that leave the queue in one turn of the loop."""
GRACE = 1.0
"""Seconds that a cancelled application has for its own clean-up before it is named."""

logger = logging.getLogger("pounce.error")


class Admission:
    def __init__(self, loop: Loop, config: Config, connections: Sized, running: set[Exchange]) -> None:
        """`running` are the exchanges whose application waits for something."""
        self._loop = loop
        self._connections = connections
        self._running = running
        self._limit = inf if config.limit_concurrency is None else config.limit_concurrency
        self._room = config.limit_queue
        self._patience = loop.deadlines(config.queue_timeout, self._turn_away)
        self._waiting: dict[Exchange, float] = {}  # since when, in order of arrival
        self._advancing = False
        self._deadline = loop.deadlines(config.timeout_request or None, self._ran_too_long)
        self.watches = config.limit_queue > 0 or config.timeout_request is not None
        """Do `begun` and `over` have to know?"""
        self.admitted = 0
        self.turned_away = 0
        self.longest = 0.0
        """Of those who waited since the queue was last empty: how many got in, how many did not, and the longest
        wait, in seconds."""

    # How many

    def overloaded(self) -> bool:
        if self._room:
            return len(self._running) >= self._limit
        return len(self._connections) > self._limit or len(self._running) >= self._limit

    def admit(self, exchange: Exchange) -> bool:
        """May it run now? If not, it waits for its turn, or has been answered."""
        if not self._waiting and not self.overloaded():
            return True
        if len(self._waiting) < self._room:
            if not self._waiting:
                logger.warning("Exceeded concurrency limit; requests are waiting.")
            exchange.queued = True
            self._waiting[exchange] = self._loop.now
            self._patience.arm(exchange)
        elif self._room:
            self._turn_away(exchange)
        else:
            logger.warning("Exceeded concurrency limit.")
            exchange.refuse()
        return False

    def _turn_away(self, exchange: Exchange) -> None:
        """It found the queue full, or has waited too long."""
        since = next(iter(self._waiting.values()), self._loop.now)
        self.leave(exchange)
        self.turned_away += 1
        exchange.refuse((b"retry-after", b"%d" % max(1, ceil(self._loop.now - since))))

    def leave(self, exchange: Exchange) -> None:
        """It waits no longer: its turn has come, its time is over, or its client has gone."""
        since = self._waiting.pop(exchange, None)
        if since is not None:
            exchange.queued = False
            self._patience.disarm(exchange)
            self.longest = max(self.longest, self._loop.now - since)
            if not self._waiting:
                self._loop.call_soon(self._tell)

    def _advance(self) -> None:
        """Somebody may go in."""
        self._advancing = False
        left = PER_TURN
        while self._waiting and not self.overloaded():
            if not left:
                self._go_on()
                return
            left -= 1
            exchange = next(iter(self._waiting))
            self.leave(exchange)
            self.admitted += 1
            exchange.admit()

    def _go_on(self) -> None:
        if self._waiting and not self._advancing:
            self._advancing = True
            self._loop.call_soon(self._advance)

    def _tell(self) -> None:
        if not self._waiting and self.admitted + self.turned_away:
            logger.info(
                "No more requests are waiting. %d were admitted, %d turned away; the longest wait was %.2f s.",
                self.admitted, self.turned_away, self.longest,
            )  # fmt: skip
            self.admitted = self.turned_away = 0
            self.longest = 0.0

    def close(self) -> None:
        """The worker's time is over: nobody's turn will come."""
        for exchange in list(self._waiting):
            self._turn_away(exchange)

    # How long

    def begun(self, exchange: Exchange) -> None:
        """The application has had to wait."""
        if exchange.__class__ is Exchange:  # and not a WebSocket, which may stay
            self._deadline.arm(exchange)

    def over(self, exchange: Exchange) -> None:
        self._deadline.disarm(exchange)
        self._go_on()

    def _ran_too_long(self, exchange: Exchange) -> None:
        if exchange.time_out():
            self._loop.call_later(GRACE, lambda: self._still_there(exchange))

    def _still_there(self, exchange: Exchange) -> None:
        if exchange in self._running:
            logger.error("%s ignores its cancellation; it is abandoned.", exchange.describe())
