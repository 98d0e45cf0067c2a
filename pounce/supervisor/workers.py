"""All workers that are alive, in a slot or not, and how each of them ends.

A worker ends by one of these orders:

    retire   leave the sockets to a successor, drain, shut the lifespan down. The server goes on
    stop     the same, and let no new client connect. The server stops
    cancel   cancel the requests in flight, then the same
    abort    end at once, without the lifespan's shutdown

A worker that is blocked reads no order, so the supervisor never waits for one. It gives an order and sets a timer,
which gives the next order, or goes on without the worker. The times follow from what a worker may need between an
order and its end:

    at 0                  stop
    at timeout            cancel: the requests have had the graceful timeout
      + CANCEL_GRACE      the application has handled its cancellation. A worker that is still starting serves no
      + ABORT_GRACE       client, and is killed
    at timeout            abort: the lifespan's shutdown has had the same timeout
      + CANCEL_GRACE
      + timeout
      + ABORT_GRACE
    ABORT_GRACE later     kill. A process reports its end then. A thread cannot be killed: it is abandoned, it runs
                          until the process exits, and the process exits without waiting for it

A second SIGINT or SIGTERM aborts at once. Without a graceful timeout no timer is set, and only that signal bounds the
end. A worker that retires is cancelled after the same timeout, in a hurry after HURRY_GRACE, and killed where it would
be aborted.

Owner: the supervisor's thread.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial

from pounce.kernel.loop import Loop, Timer
from pounce.supervisor.handle import WorkerHandle
from pounce.supervisor.shutdown_progress import ShutdownProgress
from pounce.worker.worker import CANCEL_GRACE, LIFESPAN_TIMEOUT

HURRY_GRACE = 2.0
"""Seconds that a worker which retires in a hurry has to drain: its code is being edited, and is out of date."""
ABORT_GRACE = 1.0
"""Seconds between the last order to a worker and going on without it."""

logger = logging.getLogger("pounce.error")


class Workers:
    def __init__(self, loop: Loop, grace: float | None, on_all_ended: Callable[[], object]) -> None:
        """`grace`: seconds that a worker has to drain when it retires; None: no limit. `on_all_ended` is called when
        the last worker has ended, after `stop`."""
        self._loop = loop
        self.grace = grace
        """Of workers that retire from now on."""
        self._on_all_ended = on_all_ended
        self._alive: set[WorkerHandle] = set()
        self._starting: set[WorkerHandle] = set()
        self._timers: dict[WorkerHandle, list[Timer]] = {}
        """Of workers that end by themselves. Cancelled with their end, as they would keep the worker and its
        application."""
        self._progress = ShutdownProgress(loop, lambda: [worker.in_flight() for worker in self._alive])
        self.stopping = False
        self.abandoned_threads = False
        """Has a worker thread been abandoned?"""

    def running(self) -> int:
        """How many requests are in flight."""
        return sum(worker.running() for worker in self._alive)

    def start(self, worker: WorkerHandle) -> None:
        """Raises what `WorkerHandle.start` raises."""
        worker.start()
        self._alive.add(worker)
        self._starting.add(worker)

    def started(self, worker: WorkerHandle) -> None:
        """It has reported that it is ready."""
        self._starting.discard(worker)

    def ended(self, worker: WorkerHandle) -> None:
        """It has reported its end."""
        if worker not in self._alive:  # it was abandoned
            return
        worker.join()
        logger.debug("Worker %d (%s) has ended.", worker.number + 1, worker.name)
        self._forget(worker)

    def _forget(self, worker: WorkerHandle) -> None:
        self._starting.discard(worker)
        self._alive.discard(worker)
        for timer in self._timers.pop(worker, ()):
            timer.cancel()
        if self.stopping and not self._alive:
            self._all_ended()

    def _all_ended(self) -> None:
        self._progress.stop()
        self._on_all_ended()

    def retire(
        self, worker: WorkerHandle, heir: WorkerHandle | None = None, grace: float | None = None, *, hurry: bool = False
    ) -> None:
        """Its slot has another worker, or none. One that is still starting serves no client, and ends at once.

        `heir`, `hurry`: see `WorkerHandle.retire`. `grace`: seconds that it has to drain; None: HURRY_GRACE in a hurry,
        otherwise the graceful timeout."""
        if worker in self._starting:
            self.drop(worker)
            return
        worker.retire(heir, hurry=hurry)
        if grace is None:
            grace = HURRY_GRACE if hurry else self.grace
        if grace is not None:
            self._later(worker, grace, partial(self._cancel_retired, worker))

    def _later(self, worker: WorkerHandle, delay: float, call: Callable[[], object]) -> None:
        """Calls it if the worker is still alive then."""
        if worker in self._alive:
            self._timers.setdefault(worker, []).append(self._loop.call_later(delay, call))

    def drop(self, worker: WorkerHandle) -> None:
        """Ends a worker that has served no client. Its start may wait for something that never comes."""
        worker.stop()
        self._later(worker, CANCEL_GRACE, worker.cancel)
        self._later(worker, 2 * CANCEL_GRACE + ABORT_GRACE, partial(self._kill_or_abandon, [worker]))

    def _cancel_retired(self, worker: WorkerHandle) -> None:
        if not self.stopping:
            worker.cancel()
            lifespan = LIFESPAN_TIMEOUT if self.grace is None else self.grace
            self._later(worker, CANCEL_GRACE + lifespan + ABORT_GRACE, partial(self._kill_or_abandon, [worker]))

    def stop(self, timeout: float | None, *, replaced: bool = False, hurry: bool = False) -> None:
        """Every worker drains, and has `timeout` seconds for its requests; None: no limit. `replaced`: by another
        server process, which has all sockets, so that each worker retires; `hurry`: see `WorkerHandle.retire`."""
        self.stopping = True
        if not self._alive:
            self._all_ended()
            return
        if self._starting:
            logger.info("Shutting down once the application has started. (CTRL+C to force quit)")
        for worker in self._alive:
            if replaced and worker not in self._starting:
                worker.retire(hurry=hurry)
            else:
                worker.stop()
        self._progress.start(timeout)
        if timeout is not None:
            self._loop.call_later(timeout, partial(self._cancel, timeout))

    def _cancel(self, timeout: float) -> None:
        self._progress.stop()
        for worker in self._alive:
            worker.cancel()
        self._loop.call_later(CANCEL_GRACE + ABORT_GRACE, self._give_up_starting)
        self._loop.call_later(CANCEL_GRACE + timeout + ABORT_GRACE, self.abort)

    def _give_up_starting(self) -> None:
        """The start may block for as long as the application likes."""
        for worker in sorted(self._starting, key=lambda worker: worker.number):
            logger.error("Worker %d is still starting; it is given up.", worker.number + 1)
            self._kill_or_abandon([worker])

    def abort(self) -> None:
        """Ends every worker at once."""
        self._progress.stop()
        for worker in self._alive:
            worker.abort()
        self._loop.call_later(ABORT_GRACE, lambda: self._kill_or_abandon(self._alive))

    def _kill_or_abandon(self, workers: Iterable[WorkerHandle]) -> None:
        for worker in self._alive.intersection(workers):
            if not worker.kill():
                logger.error("Worker %s does not end; it is abandoned.", worker.name)
                self.abandoned_threads = True
                self._forget(worker)
