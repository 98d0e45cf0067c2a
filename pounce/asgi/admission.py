"""How many requests of a worker run at a time, and how long each may.

With `--limit-concurrency` alone a request too many is answered 503, as by uvicorn. With `--limit-queue` it waits for
its turn, in order of arrival, no longer than `--queue-timeout`. One that finds the queue full, or waits too long, gets
503 with Retry-After: the time that the queue takes now. How long requests waited is logged when the queue is empty.

`--timeout-request` ends a request that is not answered in time: by 504, or by cutting the connection when a part of
the response is under way. An application that goes on after its response is complete keeps no client waiting, and may.

Looked at by requests only where one of the two is set, and by those that never wait only for the first.

Owner: the worker's thread.
"""

import logging
from collections.abc import Collection
from math import ceil, inf
from typing import Protocol

from pounce.config.config import Config
from pounce.kernel.loop import Loop
from pounce.protocols.fields import Field

MAX_PER_TURN = 32
"""Requests that leave the queue in one turn of the loop."""
CANCEL_GRACE = 1.0
"""Seconds that a cancelled application has for its own clean-up before it is named."""

logger = logging.getLogger("pounce.error")


class Admitted(Protocol):
    """A request, as admission sees it."""

    queued: bool
    has_deadline: bool

    def admit(self) -> None:
        """Its turn has come: it runs."""

    def refuse(self, *fields: Field) -> None:
        """It is answered 503, with these fields."""

    def time_out(self) -> bool:
        """It has run too long. False when no client waits for it any more."""

    def describe(self) -> str: ...


class Admission:
    def __init__(
        self, loop: Loop, config: Config, connections: Collection[object], running: Collection[object]
    ) -> None:
        """`running` are the exchanges whose application waits for something."""
        self._loop = loop
        self._connections = connections
        self._running = running
        self._limit = inf if config.limit_concurrency is None else config.limit_concurrency
        self._queue_limit = config.limit_queue
        self._queue_deadline = loop.deadlines(config.queue_timeout, self._refuse)
        self._waiting: dict[Admitted, float] = {}  # since when, in order of arrival
        self._scheduled = False
        self._deadline = loop.deadlines(config.timeout_request or None, self._timed_out)
        self.tracks_exchanges = config.limit_queue > 0 or config.timeout_request is not None
        """Do `exchange_started` and `exchange_ended` have to know?"""
        self.admitted = 0
        self.refused = 0
        self.longest_wait = 0.0
        """Of those who waited since the queue was last empty: how many got in, how many did not, and the longest
        wait, in seconds."""

    # How many

    def overloaded(self) -> bool:
        if self._queue_limit:
            return len(self._running) >= self._limit
        return len(self._connections) > self._limit or len(self._running) >= self._limit

    def admit(self, exchange: Admitted) -> bool:
        """May it run now? If not, it waits for its turn, or has been answered."""
        if not self._waiting and not self.overloaded():
            return True
        if len(self._waiting) < self._queue_limit:
            if not self._waiting:
                logger.warning("Exceeded concurrency limit; requests are waiting.")
            exchange.queued = True
            self._waiting[exchange] = self._loop.now
            self._queue_deadline.arm(exchange)
        elif self._queue_limit:
            self._refuse(exchange)
        else:
            logger.warning("Exceeded concurrency limit.")
            exchange.refuse()
        return False

    def _refuse(self, exchange: Admitted) -> None:
        """It found the queue full, or has waited too long."""
        since = next(iter(self._waiting.values()), self._loop.now)
        self.dequeue(exchange)
        self.refused += 1
        exchange.refuse((b"retry-after", b"%d" % max(1, ceil(self._loop.now - since))))

    def dequeue(self, exchange: Admitted) -> None:
        """It waits no longer: its turn has come, its time is over, or its client has gone."""
        since = self._waiting.pop(exchange, None)
        if since is not None:
            exchange.queued = False
            self._queue_deadline.disarm(exchange)
            self.longest_wait = max(self.longest_wait, self._loop.now - since)
            if not self._waiting:
                self._loop.call_soon(self._log_queue)

    def _admit_next(self) -> None:
        """A request may leave the queue."""
        self._scheduled = False
        left = MAX_PER_TURN
        while self._waiting and not self.overloaded():
            if not left:
                self._schedule()
                return
            left -= 1
            exchange = next(iter(self._waiting))
            self.dequeue(exchange)
            self.admitted += 1
            exchange.admit()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._admit_next)

    def _log_queue(self) -> None:
        if not self._waiting and self.admitted + self.refused:
            logger.info(
                "No more requests are waiting. %d were admitted, %d refused; the longest wait was %.2f s.",
                self.admitted, self.refused, self.longest_wait,
            )  # fmt: skip
            self.admitted = self.refused = 0
            self.longest_wait = 0.0

    def close(self) -> None:
        """The worker ends: no turn will come."""
        for exchange in list(self._waiting):
            self._refuse(exchange)

    # How long

    def exchange_started(self, exchange: Admitted) -> None:
        """The application has had to wait."""
        if exchange.has_deadline:
            self._deadline.arm(exchange)

    def exchange_ended(self, exchange: Admitted) -> None:
        self._deadline.disarm(exchange)
        self._schedule()

    def _timed_out(self, exchange: Admitted) -> None:
        if exchange.time_out():
            self._loop.call_later(CANCEL_GRACE, lambda: self._check_cancelled(exchange))

    def _check_cancelled(self, exchange: Admitted) -> None:
        if exchange in self._running:
            logger.error("%s ignores its cancellation; it is abandoned.", exchange.describe())
