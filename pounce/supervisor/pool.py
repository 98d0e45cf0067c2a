"""The workers as a pool: every slot is taken, until the server stops.

The first worker starts alone, and the others when it has shown that the application starts. One that retires has
a successor before it has drained; one that dies has one at once, and, if its successors die as quickly, after a
delay that grows, until there have been enough of them. `renew` replaces them all, one after the other: there a
successor is ready before its predecessor drains, and where it does not get ready the predecessor stays. `more` and
`fewer` change how many slots are taken.

Owner: the supervisor's thread.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.lifespan_log import LifespanLog
from pounce.supervisor.shutdown_progress import ShutdownProgress
from pounce.supervisor.slot import Slot
from pounce.supervisor.watchdog import Watch, WatchThread
from pounce.worker.balance import Board
from pounce.worker.control import Report
from pounce.worker.worker import CANCEL_GRACE

QUICK = 10.0
"""Seconds; a worker that dies sooner is replaced after a delay, which grows."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0
ATTEMPTS = 6
"""Quick deaths in a row after which the server gives up."""
LAST_WORDS = 1.0
"""Seconds between giving a worker up and going without it."""

logger = logging.getLogger("pounce.error")


class PoolOwner(Protocol):
    """Who is told what happens to the pool."""

    def hire(self, number: int, on_report: OnReport) -> WorkerHandle:
        """Makes a worker for this slot."""

    def first_ready(self) -> None:
        """The first worker's application has started; the other workers have not."""

    def all_ready(self) -> None:
        """Every worker could serve now."""

    def failed(self, code: int) -> None:
        """The pool cannot go on: the server should end with this exit code."""

    def retired(self) -> None:
        """The only worker has reached its request limit."""

    def gone(self) -> None:
        """The last worker has ended, after `stop`."""


class Pool:
    def __init__(
        self,
        owner: PoolOwner,
        loop: Loop,
        count: int,
        board: Board | None = None,
        patience: float | None = None,
        *,
        alone: bool = False,
        grace: float | None = None,
    ) -> None:
        """`patience`: seconds after which a blocked worker is given up; None: never. `alone`: the only worker may have
        this thread. `grace`: seconds that a worker has to drain when it is replaced; None: no bound."""
        self._owner = owner
        self._loop = loop
        self.slots = [Slot(number) for number in range(count)]
        self._watch = WatchThread(self.slots) if alone else Watch(loop, self.slots, board, patience, self._lose)
        self._grace = grace
        self._to_renew: list[Slot] = []
        self._living: set[WorkerHandle] = set()
        self._serving = False
        self._stopping = False
        self._lifespans = LifespanLog()
        self._shutdown_progress = ShutdownProgress(loop, lambda: [worker.in_flight() for worker in self._living])
        self.left_behind = False
        """Was a worker thread left running that did not end?"""

    def start(self) -> None:
        self._fill(self.slots[0])

    def signalled(self, heard: Callable[[], bool], patience: float | None) -> None:
        """A signal asks the server to end; `heard` tells whether the loop has got to it. Called by the handler. What
        keeps the loop from it for `patience` seconds is interrupted by another signal."""
        if isinstance(self._watch, WatchThread):
            self._watch.signalled(heard, patience)

    def serve(self) -> None:
        """Lets every worker accept clients, and from now on every new one as soon as it is ready."""
        self._serving = True
        for slot in self.slots:
            if slot.worker is not None:
                slot.worker.serve()
        self._watch.start()

    def _fill(self, slot: Slot) -> None:
        """Finds somebody for an empty slot."""
        self._hire(slot, lambda: self._fill(slot))

    def _make(self, slot: Slot) -> WorkerHandle | None:
        """Starts a worker for the slot. None if there can be none now."""
        try:
            worker = self._owner.hire(slot.number, lambda what: self._told(slot, worker, what))
            worker.start()
        except (OSError, RuntimeError, StartupError) as error:  # no descriptor, thread, process, memory or copy is left
            logger.error("Worker %d cannot be started: %s.", slot.number + 1, error)
            return None
        self._living.add(worker)
        return worker

    def _hire(self, slot: Slot, again: Callable[[], object]) -> bool:
        """Puts a new worker into the slot. False if there can be none now: then `again` is called later."""
        if self._stopping:
            return False
        worker = self._make(slot)
        if worker is None:
            if self._serving:
                slot.retry = self._loop.call_later(LONGEST_DELAY, again)
            else:
                self._owner.failed(3)
            return False
        slot.worker = worker
        slot.ready = False
        slot.retry = None
        slot.started_at = self._loop.clock()
        logger.debug("Worker %d is %s.", slot.number + 1, worker.name)
        return True

    def _told(self, slot: Slot, worker: WorkerHandle, what: Report) -> None:
        """A worker has reported something."""
        if worker is slot.successor and not self._stopping:
            self._successor_told(slot, worker, what)
            return
        if what is Report.ENDED:
            self._ended(slot, worker)
            return
        if slot.worker is not worker:
            return
        self._lifespans.tell(slot.number, what, stopping=self._stopping)
        if what is Report.FAILED and not self._serving:
            logger.error("Application startup failed. Exiting.")
            self._owner.failed(3)
        elif self._stopping:
            slot.ready = slot.ready or what is Report.READY
        elif what is Report.READY:
            self._ready(slot, worker)
        elif what is Report.RETIRING and not (self._serving and slot.ready):
            return  # somebody has asked it to end before it served anyone
        elif what is Report.RETIRING and self.count == 1:
            self._owner.retired()
        elif what is Report.RETIRING:
            if self._hire(slot, lambda: self._told(slot, worker, what)):
                self._retire(worker)
        elif what is Report.CRASHED:
            self._replace(slot)

    def _ready(self, slot: Slot, worker: WorkerHandle) -> None:
        slot.ready = True
        slot.added = False
        if self._serving:
            worker.serve()
            return
        others = [other for other in self.slots if other.worker is None]
        if others:
            self._owner.first_ready()
        for other in others:
            self._fill(other)
        if all(other.ready for other in self.slots):
            self._owner.all_ready()

    def _ended(self, slot: Slot, worker: WorkerHandle) -> None:
        self._living.discard(worker)
        worker.join()
        logger.debug("Worker %d (%s) has ended.", slot.number + 1, worker.name)
        if self._stopping:
            if not self._living:
                self._gone()
        elif slot.worker is worker and not self._serving:
            if not worker.exit_code:  # sys.exit() in the application
                logger.info("Worker %d (%s) has ended before it could serve.", slot.number + 1, worker.name)
            self._owner.failed(worker.exit_code if worker.exit_code is not None else 3)
        elif slot.worker is worker and slot.added:
            logger.error("Worker %d does not start; the server goes on without it.", slot.number + 1)
            slot.worker, slot.vacant = None, True
        elif slot.worker is worker:
            logger.error("Worker %d (%s) died.", slot.number + 1, worker.name)
            self._replace(slot)

    def _lose(self, slot: Slot) -> None:
        """The worker there does not turn its loop, and has not for too long. That is no death, or whoever knows a
        request that blocks could end the server."""
        assert slot.worker is not None
        slot.worker.lose()
        self._hire_again(slot, 0.0)

    def _replace(self, slot: Slot) -> None:
        """A worker has failed: another takes its slot, at once the first time, later if that fails as well."""
        if self._loop.clock() - slot.started_at > QUICK:
            slot.quick_deaths = 0
        slot.quick_deaths += 1
        if slot.quick_deaths > ATTEMPTS:
            logger.critical("Worker %d has failed %d times in a row. Exiting.", slot.number + 1, slot.quick_deaths)
            slot.worker = None
            self._owner.failed(3)
            return
        delay = 0.0 if slot.quick_deaths == 1 else min(FIRST_DELAY * 2 ** (slot.quick_deaths - 2), LONGEST_DELAY)
        self._hire_again(slot, delay)

    def _hire_again(self, slot: Slot, delay: float) -> None:
        slot.worker = None
        slot.ready = False
        if slot.successor is not None:
            return
        logger.info("Starting worker %d again%s.", slot.number + 1, f" in {delay:g} s" if delay else "")
        slot.retry = self._loop.call_later(delay, lambda: self._fill(slot))

    # Changes while it serves

    def _taken(self) -> list[Slot]:
        return [slot for slot in self.slots if not slot.vacant]

    @property
    def count(self) -> int:
        """How many workers there are to be."""
        return len(self._taken())

    def renew(self) -> None:
        """Replaces every worker by a new one, slot after slot. If that is under way, it begins again."""
        self._to_renew = self._taken()
        if not any(slot.successor is not None for slot in self.slots):
            self._renew_next()

    def _renew_next(self) -> None:
        while self._to_renew:
            slot = self._to_renew.pop(0)
            if slot.worker is not None and not slot.vacant:  # else it gets a new one anyway, or none
                slot.successor = self._make(slot)
                if slot.successor is None:
                    self._to_renew.clear()
                return
        logger.info("The workers have been replaced.")

    def _successor_told(self, slot: Slot, worker: WorkerHandle, what: Report) -> None:
        if what is Report.READY:
            before, slot.worker, slot.successor = slot.worker, worker, None
            slot.ready = True
            slot.started_at = self._loop.clock()
            if before is not None:
                self._retire(before)
            worker.serve()
            self._renew_next()
        elif what in (Report.FAILED, Report.ENDED):
            slot.successor = None
            self._to_renew.clear()
            logger.error("Worker %d is not replaced: its successor did not start. The workers stay.", slot.number + 1)
            if what is Report.ENDED:
                self._ended(slot, worker)
            if slot.worker is None:
                self._fill(slot)

    def more(self) -> None:
        """One worker more."""
        slot = next((slot for slot in self.slots if slot.vacant), None)
        if slot is None:
            slot = Slot(len(self.slots))
            self.slots.append(slot)
        slot.vacant, slot.added = False, True
        self._fill(slot)

    def fewer(self) -> None:
        """One worker less; not to be asked of the last one. A sibling accepts from its sockets."""
        slot = self._taken()[-1]
        slot.vacant = True
        if slot.retry is not None:
            slot.retry.cancel()
        for worker, ready in ((slot.worker, slot.ready), (slot.successor, False)):
            if worker is not None and ready:
                self._retire(worker)
            elif worker is not None:
                worker.stop()
                self._loop.call_later(CANCEL_GRACE + LAST_WORDS, partial(self._leave, [worker]))
        if slot.successor is not None:
            slot.successor = None
            self._renew_next()
        slot.worker, slot.ready = None, False

    def _retire(self, worker: WorkerHandle) -> None:
        """Lets it drain, and end within the time that is given for it."""
        worker.retire()
        if self._grace is not None:
            self._loop.call_later(self._grace, partial(self._hurry, worker, self._grace))

    def _hurry(self, worker: WorkerHandle, grace: float) -> None:
        if worker in self._living and not self._stopping:
            worker.cancel()
            self._loop.call_later(CANCEL_GRACE + grace + LAST_WORDS, partial(self._leave, [worker]))

    # The end

    def stop(self, patience: float | None) -> None:
        """Lets every worker drain. After `patience` seconds (None: for ever) running exchanges are cancelled."""
        if self._stopping:
            return
        self._stopping = True
        self._watch.stop()
        for slot in self.slots:
            if slot.retry is not None:
                slot.retry.cancel()
        if not self._living:
            self._gone()
            return
        if any(slot.worker in self._living and not slot.ready for slot in self.slots):
            logger.info("Shutting down once the application has started. (CTRL+C to force quit)")
        for worker in self._living:
            worker.stop()
        self._shutdown_progress.start(patience)
        if patience is not None:
            self._loop.call_later(patience, lambda: self._cancel(patience))

    def _leave_starting(self) -> None:
        """They serve nobody, and what blocks a start may take as long as it likes."""
        for slot in self.slots:
            for worker, ready in ((slot.worker, slot.ready), (slot.successor, False)):
                if worker in self._living and not ready:
                    logger.error("Worker %d is still starting; it is given up.", slot.number + 1)
                    self._leave([worker])

    def _cancel(self, patience: float) -> None:
        self._shutdown_progress.stop()
        for worker in self._living:
            worker.cancel()
        self._loop.call_later(CANCEL_GRACE + LAST_WORDS, self._leave_starting)
        # A worker that can still turn its loop ends by itself now, its lifespan's shutdown within its own bound.
        self._loop.call_later(CANCEL_GRACE + patience + LAST_WORDS, self.force)

    def force(self) -> None:
        """Ends at once what has not ended yet."""
        self._shutdown_progress.stop()
        for worker in self._living:
            worker.abandon()
        self._loop.call_later(LAST_WORDS, lambda: self._leave(self._living))

    def _leave(self, workers: Iterable[WorkerHandle]) -> None:
        """Goes without these, if they have not answered."""
        for worker in self._living.intersection(workers):
            if not worker.kill():
                logger.error("Worker %s does not end; it is abandoned.", worker.name)
                self._living.discard(worker)
                self.left_behind = True
        if not self._living:
            self._gone()

    def _gone(self) -> None:
        self._shutdown_progress.stop()
        self._lifespans.over()
        self._owner.gone()
