"""How many requests a worker answers before another takes its place (`--limit-max-requests`, with its jitter).

Owner: the worker's thread.
"""

import logging
from collections.abc import Callable
from math import inf

from pounce.config.config import Config
from pounce.observe.observer import Observed, Outcome

logger = logging.getLogger("pounce.error")


class RequestLimit:
    """Counts responses when they are complete, and WebSockets when they are accepted."""

    def __init__(self, config: Config, serving: Callable[[], bool], reached: Callable[[], object]) -> None:
        """`reached` is called once, with the last request; only those count that are answered while `serving`."""
        self.enabled = config.limit_max_requests is not None
        self._serving = serving
        self._reached = reached
        self._count = 0
        self._limit = inf
        if config.limit_max_requests is not None:
            from random import randint  # half a MiB, which few need

            self._limit = config.limit_max_requests + randint(0, config.limit_max_requests_jitter)

    def on_response(self, exchange: Observed) -> None:
        if exchange.status == 101:
            self._add()

    def on_end(self, exchange: Observed, outcome: Outcome) -> None:
        if exchange.answered:
            self._add()

    def _add(self) -> None:
        if not self._serving():
            return
        self._count += 1
        if self._count >= self._limit:
            logger.info("Maximum request limit of %d exceeded. Terminating process.", self._limit)
            self._limit = inf
            self._reached()
