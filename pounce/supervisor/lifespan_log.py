"""Log lines of the application's lifespan: each once for the server, however many workers have a lifespan.

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
        if report is Report.LIFESPAN_UNSUPPORTED and self._counts[report] == 1:
            logger.info("ASGI 'lifespan' protocol appears unsupported.")
        elif report is Report.LIFESPAN_END_FAILED and not stopping:
            logger.error("Application shutdown of worker %d failed.", number + 1)
        if not stopping:
            self._counts[Report.LIFESPAN_ENDING] = self._counts[Report.LIFESPAN_ENDED] = self._counts[
                Report.LIFESPAN_END_FAILED
            ] = 0
        elif report is Report.LIFESPAN_ENDING and self._counts[report] == 1:
            logger.info("Waiting for application shutdown.")

    def pool_ended(self) -> None:
        """The last worker has ended."""
        if self._counts[Report.LIFESPAN_END_FAILED]:
            logger.error("Application shutdown failed. Exiting.")
        elif (
            self._counts[Report.LIFESPAN_ENDING]
            and self._counts[Report.LIFESPAN_ENDED] == self._counts[Report.LIFESPAN_ENDING]
        ):
            logger.info("Application shutdown complete.")
