"""The workers as a crew: every place is taken, until the server stops.

The first worker starts alone, and the others when it has shown that the application starts. One that retires has
a successor before it has drained; one that dies has one at once, and, if its successors die as quickly, after a
delay that grows, until there have been enough of them. `renew` replaces them all, one after the other: there a
successor is ready before its predecessor drains, and where it does not get ready the predecessor stays. `more` and
`fewer` change how many places are taken.

Owner: the supervisor's thread.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from pounce.errors import StartupError
from pounce.kernel.loop import Loop, Timer
from pounce.supervisor.handle import Told, WorkerHandle
from pounce.supervisor.lifespan_log import LifespanLog
from pounce.supervisor.watchdog import Watch, WatchThread
from pounce.worker.balance import Board
from pounce.worker.census import Farewell
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


class CrewOwner(Protocol):
    """Who is told what happens to the crew."""

    def hire(self, number: int, told: Told) -> WorkerHandle:
        """Makes a worker for this place."""

    def first_ready(self) -> None:
        """The first worker's application has started; the other workers have not."""

    def all_ready(self) -> None:
        """Every worker could serve now."""

    def failed(self, code: int) -> None:
        """The crew cannot go on: the server should end with this exit code."""

    def retired(self) -> None:
        """The only worker has reached its request limit."""

    def gone(self) -> None:
        """The last worker has ended, after `stop`."""


class Place:
    """The place of one worker. Its number chooses its sockets; who stands in it may change."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerHandle | None = None
        self.successor: WorkerHandle | None = None
        """Who is starting, to take the place of a worker that serves."""
        self.vacant = False
        """It is to have no worker."""
        self.added = False
        """It is new, and no worker has got ready there yet."""
        self.ready = False
        """Does its worker accept, once clients are let in?"""
        self.started_at = 0.0
        self.quick_deaths = 0
        self.retry: Timer | None = None
        self.blocked_at: float | None = None
        self.helper: Place | None = None
        """Whose worker accepts instead."""
        self.told = 0
        """The level at which it was last looked whether to log that its worker is blocked; 0: not yet."""
        self.warned = False
        """Is it in the log as a warning?"""

    @property
    def able(self) -> bool:
        return self.worker is not None and self.ready and self.blocked_at is None


class Crew:
    def __init__(
        self,
        owner: CrewOwner,
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
        self.places = [Place(number) for number in range(count)]
        self._watch = WatchThread(self.places) if alone else Watch(loop, self.places, board, patience, self._lose)
        self._grace = grace
        self._to_renew: list[Place] = []
        self._living: set[WorkerHandle] = set()
        self._serving = False
        self._stopping = False
        self._lifespans = LifespanLog()
        self._farewell = Farewell(loop, lambda: [worker.unfinished() for worker in self._living])
        self.left_behind = False
        """Was a worker thread left running that did not end?"""

    def start(self) -> None:
        self._fill(self.places[0])

    def signalled(self, heard: Callable[[], bool], patience: float | None) -> None:
        """A signal asks the server to end; `heard` tells whether the loop has got to it. Called by the handler. What
        keeps the loop from it for `patience` seconds is interrupted by another signal."""
        if isinstance(self._watch, WatchThread):
            self._watch.signalled(heard, patience)

    def serve(self) -> None:
        """Lets every worker accept clients, and from now on every new one as soon as it is ready."""
        self._serving = True
        for place in self.places:
            if place.worker is not None:
                place.worker.serve()
        self._watch.start()

    def _fill(self, place: Place) -> None:
        """Finds somebody for an empty place."""
        self._hire(place, lambda: self._fill(place))

    def _make(self, place: Place) -> WorkerHandle | None:
        """Starts a worker for the place. None if there can be none now."""
        try:
            worker = self._owner.hire(place.number, lambda what: self._told(place, worker, what))
            worker.start()
        except (OSError, RuntimeError, StartupError) as error:  # no descriptor, thread, process, memory or copy is left
            logger.error("Worker %d cannot be started: %s.", place.number + 1, error)
            return None
        self._living.add(worker)
        return worker

    def _hire(self, place: Place, again: Callable[[], object]) -> bool:
        """Puts a new worker into the place. False if there can be none now: then `again` is called later."""
        if self._stopping:
            return False
        worker = self._make(place)
        if worker is None:
            if self._serving:
                place.retry = self._loop.call_later(LONGEST_DELAY, again)
            else:
                self._owner.failed(3)
            return False
        place.worker = worker
        place.ready = False
        place.retry = None
        place.started_at = self._loop.clock()
        logger.debug("Worker %d is %s.", place.number + 1, worker.name)
        return True

    def _told(self, place: Place, worker: WorkerHandle, what: Report) -> None:
        """A worker has reported something."""
        if worker is place.successor and not self._stopping:
            self._successor_told(place, worker, what)
            return
        if what is Report.ENDED:
            self._ended(place, worker)
            return
        if place.worker is not worker:
            return
        self._lifespans.tell(place.number, what, stopping=self._stopping)
        if what is Report.FAILED and not self._serving:
            logger.error("Application startup failed. Exiting.")
            self._owner.failed(3)
        elif self._stopping:
            place.ready = place.ready or what is Report.READY
        elif what is Report.READY:
            self._ready(place, worker)
        elif what is Report.RETIRING and not (self._serving and place.ready):
            return  # somebody has asked it to end before it served anyone
        elif what is Report.RETIRING and self.count == 1:
            self._owner.retired()
        elif what is Report.RETIRING:
            if self._hire(place, lambda: self._told(place, worker, what)):
                self._retire(worker)
        elif what is Report.CRASHED:
            self._replace(place)

    def _ready(self, place: Place, worker: WorkerHandle) -> None:
        place.ready = True
        place.added = False
        if self._serving:
            worker.serve()
            return
        others = [other for other in self.places if other.worker is None]
        if others:
            self._owner.first_ready()
        for other in others:
            self._fill(other)
        if all(other.ready for other in self.places):
            self._owner.all_ready()

    def _ended(self, place: Place, worker: WorkerHandle) -> None:
        self._living.discard(worker)
        worker.join()
        logger.debug("Worker %d (%s) has ended.", place.number + 1, worker.name)
        if self._stopping:
            if not self._living:
                self._gone()
        elif place.worker is worker and not self._serving:
            if not worker.exit_code:  # sys.exit() in the application
                logger.info("Worker %d (%s) has ended before it could serve.", place.number + 1, worker.name)
            self._owner.failed(worker.exit_code if worker.exit_code is not None else 3)
        elif place.worker is worker and place.added:
            logger.error("Worker %d does not start; the server goes on without it.", place.number + 1)
            place.worker, place.vacant = None, True
        elif place.worker is worker:
            logger.error("Worker %d (%s) died.", place.number + 1, worker.name)
            self._replace(place)

    def _lose(self, place: Place) -> None:
        """The worker there does not turn its loop, and has not for too long. That is no death, or whoever knows a
        request that blocks could end the server."""
        assert place.worker is not None
        place.worker.lose()
        self._hire_again(place, 0.0)

    def _replace(self, place: Place) -> None:
        """A worker has failed: another takes its place, at once the first time, later if that fails as well."""
        if self._loop.clock() - place.started_at > QUICK:
            place.quick_deaths = 0
        place.quick_deaths += 1
        if place.quick_deaths > ATTEMPTS:
            logger.critical("Worker %d has failed %d times in a row. Exiting.", place.number + 1, place.quick_deaths)
            place.worker = None
            self._owner.failed(3)
            return
        delay = 0.0 if place.quick_deaths == 1 else min(FIRST_DELAY * 2 ** (place.quick_deaths - 2), LONGEST_DELAY)
        self._hire_again(place, delay)

    def _hire_again(self, place: Place, delay: float) -> None:
        place.worker = None
        place.ready = False
        if place.successor is not None:
            return
        logger.info("Starting worker %d again%s.", place.number + 1, f" in {delay:g} s" if delay else "")
        place.retry = self._loop.call_later(delay, lambda: self._fill(place))

    # Changes while it serves

    def _taken(self) -> list[Place]:
        return [place for place in self.places if not place.vacant]

    @property
    def count(self) -> int:
        """How many workers there are to be."""
        return len(self._taken())

    def renew(self) -> None:
        """Replaces every worker by a new one, place after place. If that is under way, it begins again."""
        self._to_renew = self._taken()
        if not any(place.successor is not None for place in self.places):
            self._renew_next()

    def _renew_next(self) -> None:
        while self._to_renew:
            place = self._to_renew.pop(0)
            if place.worker is not None and not place.vacant:  # else it gets a new one anyway, or none
                place.successor = self._make(place)
                if place.successor is None:
                    self._to_renew.clear()
                return
        logger.info("The workers have been replaced.")

    def _successor_told(self, place: Place, worker: WorkerHandle, what: Report) -> None:
        if what is Report.READY:
            before, place.worker, place.successor = place.worker, worker, None
            place.ready = True
            place.started_at = self._loop.clock()
            if before is not None:
                self._retire(before)
            worker.serve()
            self._renew_next()
        elif what in (Report.FAILED, Report.ENDED):
            place.successor = None
            self._to_renew.clear()
            logger.error("Worker %d is not replaced: its successor did not start. The workers stay.", place.number + 1)
            if what is Report.ENDED:
                self._ended(place, worker)
            if place.worker is None:
                self._fill(place)

    def more(self) -> None:
        """One worker more."""
        place = next((place for place in self.places if place.vacant), None)
        if place is None:
            place = Place(len(self.places))
            self.places.append(place)
        place.vacant, place.added = False, True
        self._fill(place)

    def fewer(self) -> None:
        """One worker less; not to be asked of the last one. A sibling accepts from its sockets."""
        place = self._taken()[-1]
        place.vacant = True
        if place.retry is not None:
            place.retry.cancel()
        for worker, ready in ((place.worker, place.ready), (place.successor, False)):
            if worker is not None and ready:
                self._retire(worker)
            elif worker is not None:
                worker.stop()
                self._loop.call_later(CANCEL_GRACE + LAST_WORDS, partial(self._leave, [worker]))
        if place.successor is not None:
            place.successor = None
            self._renew_next()
        place.worker, place.ready = None, False

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
        for place in self.places:
            if place.retry is not None:
                place.retry.cancel()
        if not self._living:
            self._gone()
            return
        if any(place.worker in self._living and not place.ready for place in self.places):
            logger.info("Shutting down once the application has started. (CTRL+C to force quit)")
        for worker in self._living:
            worker.stop()
        self._farewell.start(patience)
        if patience is not None:
            self._loop.call_later(patience, lambda: self._cancel(patience))

    def _leave_starting(self) -> None:
        """They serve nobody, and what blocks a start may take as long as it likes."""
        for place in self.places:
            for worker, ready in ((place.worker, place.ready), (place.successor, False)):
                if worker in self._living and not ready:
                    logger.error("Worker %d is still starting; it is given up.", place.number + 1)
                    self._leave([worker])

    def _cancel(self, patience: float) -> None:
        self._farewell.stop()
        for worker in self._living:
            worker.cancel()
        self._loop.call_later(CANCEL_GRACE + LAST_WORDS, self._leave_starting)
        # A worker that can still turn its loop ends by itself now, its lifespan's shutdown within its own bound.
        self._loop.call_later(CANCEL_GRACE + patience + LAST_WORDS, self.force)

    def force(self) -> None:
        """Ends at once what has not ended yet."""
        self._farewell.stop()
        for worker in self._living:
            worker.abandon()
        self._loop.call_later(LAST_WORDS, lambda: self._leave(self._living))

    def _leave(self, workers: Iterable[WorkerHandle]) -> None:
        """Goes without these, if they have not answered."""
        for worker in self._living.intersection(workers):
            if not worker.kill():
                logger.error("Worker %s does not end; leaving it behind.", worker.name)
                self._living.discard(worker)
                self.left_behind = True
        if not self._living:
            self._gone()

    def _gone(self) -> None:
        self._farewell.stop()
        self._lifespans.over()
        self._owner.gone()
