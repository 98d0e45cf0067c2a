"""What the log says of the application's lifespan: each line once for the server, however many workers have one.

The words are uvicorn's. Owner: the supervisor's thread.
"""

import logging

from pounce.worker.control import Report

logger = logging.getLogger("pounce.error")


class LifespanLog:
    def __init__(self) -> None:
        self._told = dict.fromkeys(Report, 0)

    def tell(self, number: int, what: Report, *, stopping: bool) -> None:
        """The worker at place `number` has reported something, of which one is said while the server is `stopping`."""
        self._told[what] += 1
        if what is Report.UNSUPPORTED and self._told[what] == 1:
            logger.info("ASGI 'lifespan' protocol appears unsupported.")
        elif what is Report.UNCLOSED and not stopping:
            logger.error("Application shutdown of worker %d failed.", number + 1)
        if not stopping:
            self._told[Report.CLOSING] = self._told[Report.CLOSED] = self._told[Report.UNCLOSED] = 0
        elif what is Report.CLOSING and self._told[what] == 1:
            logger.info("Waiting for application shutdown.")

    def over(self) -> None:
        """The last worker has ended."""
        if self._told[Report.UNCLOSED]:
            logger.error("Application shutdown failed. Exiting.")
        elif self._told[Report.CLOSING] and self._told[Report.CLOSED] == self._told[Report.CLOSING]:
            logger.info("Application shutdown complete.")
