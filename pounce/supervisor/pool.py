"""The pool: all workers of a server, each in a slot, and each slot of one generation.

The first worker starts alone, and the others when it has shown that the application starts. A worker that wants a
successor has one before it has drained. A worker that fails is replaced at once the first time, and, if its successors
fail within QUICK_FAILURE seconds, after a delay that doubles; after MAX_QUICK_FAILURES the pool fails.

`roll` replaces the workers of every other generation (see `roll`). A slot whose worker fails is filled by its own
generation.

Owner: the supervisor's thread.
"""

import logging
from collections import Counter
from functools import partial
from typing import Protocol

from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.supervisor.generation import Generation
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.lifespan_log import LifespanLog
from pounce.supervisor.roll import Roll
from pounce.supervisor.slot import Slot, SlotState
from pounce.supervisor.watchdog import Watchdog, WatchdogThread
from pounce.supervisor.workers import Workers
from pounce.worker.balance import Balancer
from pounce.worker.control import Report

QUICK_FAILURE = 10.0
"""Seconds; a worker that fails sooner is replaced after a delay."""
RESTART_DELAY, MAX_RESTART_DELAY = 0.25, 8.0
"""Seconds: the first delay and the longest."""
MAX_QUICK_FAILURES = 6
"""Quick failures in a row after which the server stops."""

logger = logging.getLogger("pounce.error")


class PoolOwner(Protocol):
    """What the pool calls."""

    def make_worker(self, generation: Generation, number: int, on_report: OnReport) -> WorkerHandle:
        """Makes a worker for this slot, and does not start it. Raises StartupError."""

    def first_ready(self) -> None:
        """The first worker's application has started; the other workers have not."""

    def all_ready(self) -> None:
        """Every worker could serve now."""

    def pool_failed(self, code: int) -> None:
        """The pool cannot go on: the server should stop with this exit code."""

    def request_limit_reached(self) -> None:
        """The only worker wants a successor."""

    def roll_ended(self, generation: Generation, failure: str) -> None:
        """A roll to this generation has ended. `failure`: why the workers stay; empty: every slot has it."""

    def generation_ended(self, generation: Generation) -> None:
        """Its last worker has ended, and it has no slot any more."""

    def pool_ended(self) -> None:
        """The last worker has ended, after `stop`."""


class Pool:
    def __init__(
        self, owner: PoolOwner, loop: Loop, generation: Generation, count: int, balancer: Balancer | None = None,
        stuck_timeout: float | None = None, *, single: bool = False, grace: float | None = None,
    ) -> None:  # fmt: skip
        """`stuck_timeout`: seconds after which a blocked worker is given up; None: never. `single`: the only worker may
        have this thread. `grace`: seconds that a worker has to drain when it retires; None: no limit."""
        self._owner = owner
        self._loop = loop
        self.generation = generation
        """Of workers in new slots: the newest one that has started."""
        self.slots = [Slot(number, generation) for number in range(count)]
        self.watchdog: Watchdog | WatchdogThread = (
            WatchdogThread(self.slots) if single else Watchdog(loop, self.slots, balancer, stuck_timeout, self._give_up)
        )
        self.workers = Workers(loop, grace, self._all_ended)
        self._lifespan_log = LifespanLog()
        self._serving = False
        self._roll = Roll(self, self.workers)
        self._alive: Counter[Generation] = Counter()
        """Workers that have not ended, by generation."""

    def start(self) -> None:
        self.fill(self.slots[0])

    def serve(self) -> None:
        """Lets every worker accept clients, and from now on every new one as soon as it is ready."""
        self._serving = True
        for slot in self.slots:
            if slot.worker is not None:
                slot.worker.serve()
        self.watchdog.start()

    def start_worker(self, slot: Slot, generation: Generation) -> WorkerHandle | None:
        """A worker for this slot, which it does not have yet. None if there can be none now, which has been logged."""
        try:
            worker = self._owner.make_worker(
                generation, slot.number, lambda report: self._on_report(slot, worker, generation, report)
            )
            self.workers.start(worker)
        except (OSError, RuntimeError, StartupError) as error:  # no descriptor, thread, process, memory or copy is left
            logger.error("Worker %d cannot be started: %s.", slot.number + 1, error)
            return None
        self._alive[generation] += 1
        return worker

    def fill(self, slot: Slot) -> None:
        """Starts a worker in an empty slot."""
        if self.workers.stopping:
            return
        worker = self.start_worker(slot, slot.generation)
        if worker is None:
            if self._serving:
                slot.retry = self._loop.call_later(MAX_RESTART_DELAY, partial(self.fill, slot))
            else:
                self._owner.pool_failed(3)
            return
        slot.worker = worker
        if slot.state is not SlotState.NEW:
            slot.state = SlotState.STARTING
        slot.retry = None
        slot.started_at = self._loop.clock()
        logger.debug("Worker %d is %s.", slot.number + 1, worker.name)

    # What workers report

    def _on_report(self, slot: Slot, worker: WorkerHandle, generation: Generation, report: Report) -> None:
        if report is Report.READY:
            self.workers.started(worker)
        if report is Report.ENDED:
            self._alive[generation] -= 1
        if self._roll.is_successor(worker) and not self.workers.stopping:
            self._roll.on_report(report)
            if report is Report.ENDED:
                self.workers.ended(worker)
        elif report is Report.ENDED:
            self._on_ended(slot, worker)
        else:
            self._on_progress(slot, worker, report)
        if report is Report.ENDED:
            self._check_generation(generation)

    def _check_generation(self, generation: Generation) -> None:
        """Tells the owner if nothing of the generation is left."""
        if self._alive.get(generation) == 0 and all(slot.generation is not generation for slot in self.active_slots):
            del self._alive[generation]
            self._owner.generation_ended(generation)

    def _on_progress(self, slot: Slot, worker: WorkerHandle, report: Report) -> None:
        if slot.worker is not worker:
            return
        self._lifespan_log.on_report(slot.number, report, stopping=self.workers.stopping)
        if report is Report.START_FAILED and not self._serving:
            logger.error("Application startup failed. Exiting.")
            self._owner.pool_failed(3)
        elif self.workers.stopping:
            return
        elif report is Report.READY:
            self._on_ready(slot, worker)
        elif report is Report.WANTS_SUCCESSOR and not (self._serving and slot.ready):
            return  # a signal asks it to end before it has served anyone
        elif report is Report.WANTS_SUCCESSOR and self.count == 1:
            self._owner.request_limit_reached()
        elif report is Report.WANTS_SUCCESSOR:
            self._roll.renew(slot, worker)
        elif report is Report.LOOP_FAILED:
            self._replace(slot)

    def _on_ready(self, slot: Slot, worker: WorkerHandle) -> None:
        slot.state, slot.failed_at = SlotState.READY, 0.0
        if self._serving:
            worker.serve()
            return
        others = [other for other in self.slots if other.worker is None]
        if others:
            self._owner.first_ready()
        for other in others:
            self.fill(other)
        if all(other.ready for other in self.slots):
            self._owner.all_ready()

    def _on_ended(self, slot: Slot, worker: WorkerHandle) -> None:
        self.workers.ended(worker)
        if self.workers.stopping or slot.worker is not worker:
            return
        if not self._serving:
            if not worker.exit_code:  # sys.exit() in the application
                logger.info("Worker %d (%s) has ended before it could serve.", slot.number + 1, worker.name)
            self._owner.pool_failed(worker.exit_code if worker.exit_code is not None else 3)
        elif slot.state is SlotState.NEW:
            logger.error("Worker %d does not start; the server goes on without it.", slot.number + 1)
            self._remove(slot)
        else:
            logger.error("Worker %d (%s) died.", slot.number + 1, worker.name)
            self._replace(slot)

    # Replacing a worker that has failed

    def _give_up(self, slot: Slot) -> None:
        """Its worker is blocked for too long. This is not counted as a failure, or a client that knows a request that
        blocks could stop the server."""
        assert slot.worker is not None
        slot.worker.give_up()
        self._restart(slot, 0.0)

    def _replace(self, slot: Slot) -> None:
        if self._loop.clock() - slot.started_at > QUICK_FAILURE:
            slot.quick_failures = 0
        slot.quick_failures += 1
        failures = slot.quick_failures
        if failures > MAX_QUICK_FAILURES:
            logger.critical("Worker %d has failed %d times in a row. Exiting.", slot.number + 1, failures)
            slot.worker, slot.state = None, SlotState.EMPTY
            self._owner.pool_failed(3)
            return
        self._restart(slot, 0.0 if failures == 1 else min(RESTART_DELAY * 2 ** (failures - 2), MAX_RESTART_DELAY))

    def _restart(self, slot: Slot, delay: float) -> None:
        slot.worker = None
        slot.failed_at = slot.failed_at or self._loop.clock()
        slot.state = SlotState.EMPTY
        if self._roll.has_successor(slot):
            return  # it takes the slot, or leaves it to be filled
        logger.info("Starting worker %d again%s.", slot.number + 1, f" in {delay:g} s" if delay else "")
        slot.retry = self._loop.call_later(delay, partial(self.fill, slot))

    # Changes while the server serves

    @property
    def active_slots(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.state is not SlotState.REMOVED]

    @property
    def count(self) -> int:
        """How many workers there are to be."""
        return len(self.active_slots)

    def roll(self, generation: Generation) -> None:
        """Replaces every worker of another generation; a roll that is under way ends. Does nothing after `stop`."""
        if not self.workers.stopping:
            self._roll.cancel()
            self._alive[generation] += 0
            self._roll.begin(generation)

    def take_slot(self, slot: Slot, worker: WorkerHandle, generation: Generation) -> None:
        predecessor, slot.worker = slot.worker, worker
        slot.state, slot.generation, self.generation = SlotState.READY, generation, generation
        slot.started_at, slot.failed_at = self._loop.clock(), 0.0
        worker.serve()
        if predecessor is not None:
            hurry = generation.config.should_reload
            self.workers.retire(predecessor, worker, hurry=hurry)

    def renewal_failed(self, slot: Slot, worker: WorkerHandle) -> None:
        slot.retry = self._loop.call_later(MAX_RESTART_DELAY, partial(self._roll.renew, slot, worker))

    def roll_ended(self, generation: Generation, failure: str) -> None:
        if not failure:
            self.generation = generation
        self._owner.roll_ended(generation, failure)
        for each in list(self._alive):
            self._check_generation(each)

    def add_worker(self) -> None:
        slot = next((slot for slot in self.slots if slot.state is SlotState.REMOVED), None)
        if slot is None:
            slot = Slot(len(self.slots), self.generation)
            self.slots.append(slot)
        else:
            slot.state, slot.generation = SlotState.NEW, self.generation
        self.fill(slot)

    def remove_worker(self) -> None:
        """Not to be called for the last one. A sibling accepts from its sockets."""
        slot = self.active_slots[-1]
        if slot.retry is not None:
            slot.retry.cancel()
        if slot.worker is not None:
            siblings = (other.worker for other in self.active_slots if other is not slot and other.ready)
            self.workers.retire(slot.worker, next(siblings, None))
        self._remove(slot)

    def _remove(self, slot: Slot) -> None:
        slot.worker, slot.state = None, SlotState.REMOVED
        self._roll.slot_removed(slot)

    # The end

    def stop(self, timeout: float | None, *, replaced: bool = False, hurry: bool = False) -> None:
        """Lets every worker drain and end. After `timeout` seconds requests in flight are cancelled; None: never.
        `replaced`, `hurry`: see `Workers.stop`."""
        if self.workers.stopping:
            return
        self.watchdog.stop()
        self._roll.stop()
        for slot in self.slots:
            if slot.retry is not None:
                slot.retry.cancel()
        self.workers.stop(timeout, replaced=replaced, hurry=hurry)

    def abort(self) -> None:
        """Ends at once what has not ended yet. Not before `stop`."""
        self.workers.abort()

    def _all_ended(self) -> None:
        self._lifespan_log.pool_ended()
        self._owner.pool_ended()
