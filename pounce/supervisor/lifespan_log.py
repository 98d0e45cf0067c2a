"""What the log says of the application's lifespan: each line once for the server, however many workers have one.

The texts are uvicorn's. Owner: the supervisor's thread.
"""

import logging

from pounce.worker.control import Report

logger = logging.getLogger("pounce.error")


class LifespanLog:
    def __init__(self) -> None:
        self._counts = dict.fromkeys(Report, 0)

    def on_report(self, number: int, report: Report, *, stopping: bool) -> None:
        """From the worker in the slot `number`. While the server is `stopping`, all workers shut down together, and
        their reports make one line."""
        self._counts[report] += 1
        if report is Report.UNSUPPORTED and self._counts[report] == 1:
            logger.info("ASGI 'lifespan' protocol appears unsupported.")
        elif report is Report.UNCLOSED and not stopping:
            logger.error("Application shutdown of worker %d failed.", number + 1)
        if not stopping:
            self._counts[Report.CLOSING] = self._counts[Report.CLOSED] = self._counts[Report.UNCLOSED] = 0
        elif report is Report.CLOSING and self._counts[report] == 1:
            logger.info("Waiting for application shutdown.")

    def pool_ended(self) -> None:
        """The last worker has ended."""
        if self._counts[Report.UNCLOSED]:
            logger.error("Application shutdown failed. Exiting.")
        elif self._counts[Report.CLOSING] and self._counts[Report.CLOSED] == self._counts[Report.CLOSING]:
            logger.info("Application shutdown complete.")
