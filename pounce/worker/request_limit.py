"""How many requests a worker answers before another takes its place (`--limit-max-requests`, with its jitter).

Owner: the worker's thread.
"""

import logging
from math import inf

from pounce.config.config import Config

logger = logging.getLogger("pounce.error")


class RequestLimit:
    def __init__(self, config: Config) -> None:
        self.counts = config.limit_max_requests is not None
        """Does `reached` have to be asked?"""
        self._answered = 0
        self._limit = inf
        if config.limit_max_requests is not None:
            from random import randint  # half a MiB, for the few who want it

            self._limit = config.limit_max_requests + randint(0, config.limit_max_requests_jitter)

    def reached(self) -> bool:
        """One more request has been answered. True, once, when that was the last."""
        self._answered += 1
        if self._answered < self._limit:
            return False
        logger.info("Maximum request limit of %d exceeded. Terminating process.", self._limit)
        self._limit = inf
        return True
