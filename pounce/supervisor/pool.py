"""The pool: all workers of a server, each in a slot, and each slot of one generation.

The first worker starts alone, and the others when it has shown that the application starts. A worker that wants a
successor has one before it has drained. A worker that fails is replaced at once the first time, and, if its successors
fail within QUICK_FAILURE seconds, after a delay that doubles; after MAX_QUICK_FAILURES the pool fails.

`roll` replaces the workers of every other generation, one slot after the other: a successor is ready before its
predecessor retires, and where it does not get ready the predecessor stays and the roll ends. A slot whose worker fails
is filled by its own generation, so a generation that has not started anywhere replaces no worker.

Owner: the supervisor's thread.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.supervisor.generation import Generation
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.lifespan_log import LifespanLog
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

    def pool_ended(self) -> None:
        """The last worker has ended, after `stop`."""


class _Successor(NamedTuple):
    """The worker that is starting to replace the one in a slot."""

    slot: Slot
    worker: WorkerHandle
    generation: Generation


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
        self._workers = Workers(loop, grace, self._all_ended)
        self._lifespan_log = LifespanLog()
        self._serving = False
        self._target: Generation | None = None
        """What a roll replaces the others by."""
        self._successor: _Successor | None = None

    def start(self) -> None:
        self._fill(self.slots[0])

    def serve(self) -> None:
        """Lets every worker accept clients, and from now on every new one as soon as it is ready."""
        self._serving = True
        for slot in self.slots:
            if slot.worker is not None:
                slot.worker.serve()
        self.watchdog.start()

    def _start_worker(self, slot: Slot, generation: Generation) -> WorkerHandle | None:
        """None if there can be none now, which has been logged."""
        try:
            worker = self._owner.make_worker(
                generation, slot.number, lambda report: self._on_report(slot, worker, report)
            )
            self._workers.start(worker)
        except (OSError, RuntimeError, StartupError) as error:  # no descriptor, thread, process, memory or copy is left
            logger.error("Worker %d cannot be started: %s.", slot.number + 1, error)
            return None
        return worker

    def _fill(self, slot: Slot) -> None:
        """Starts a worker in an empty slot."""
        self._fill_with_new(slot, partial(self._fill, slot))

    def _fill_with_new(self, slot: Slot, retry: Callable[[], object]) -> bool:
        """Puts a new worker into the slot. False if there can be none now: then `retry` is called later."""
        if self._workers.stopping:
            return False
        worker = self._start_worker(slot, slot.generation)
        if worker is None:
            if self._serving:
                slot.retry = self._loop.call_later(MAX_RESTART_DELAY, retry)
            else:
                self._owner.pool_failed(3)
            return False
        slot.worker = worker
        if slot.state is not SlotState.NEW:
            slot.state = SlotState.STARTING
        slot.retry = None
        slot.started_at = self._loop.clock()
        logger.debug("Worker %d is %s.", slot.number + 1, worker.name)
        return True

    # What workers report

    def _on_report(self, slot: Slot, worker: WorkerHandle, report: Report) -> None:
        if report is Report.READY:
            self._workers.started(worker)
        if self._successor is not None and worker is self._successor.worker and not self._workers.stopping:
            self._on_successor_report(self._successor, report)
            return
        if report is Report.ENDED:
            self._on_ended(slot, worker)
            return
        if slot.worker is not worker:
            return
        self._lifespan_log.on_report(slot.number, report, stopping=self._workers.stopping)
        if report is Report.START_FAILED and not self._serving:
            logger.error("Application startup failed. Exiting.")
            self._owner.pool_failed(3)
        elif self._workers.stopping:
            return
        elif report is Report.READY:
            self._on_ready(slot, worker)
        elif report is Report.WANTS_SUCCESSOR and not (self._serving and slot.ready):
            return  # a signal asks it to end before it has served anyone
        elif report is Report.WANTS_SUCCESSOR and self.count == 1:
            self._owner.request_limit_reached()
        elif report is Report.WANTS_SUCCESSOR:
            if self._fill_with_new(slot, partial(self._on_report, slot, worker, report)):
                self._workers.retire(worker)
        elif report is Report.LOOP_FAILED:
            self._replace(slot)

    def _on_ready(self, slot: Slot, worker: WorkerHandle) -> None:
        slot.state = SlotState.READY
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

    def _on_ended(self, slot: Slot, worker: WorkerHandle) -> None:
        self._workers.ended(worker)
        if self._workers.stopping or slot.worker is not worker:
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
        slot.state = SlotState.EMPTY
        if self._successor is not None and self._successor.slot is slot:
            return  # it takes the slot, or leaves it to be filled
        logger.info("Starting worker %d again%s.", slot.number + 1, f" in {delay:g} s" if delay else "")
        slot.retry = self._loop.call_later(delay, partial(self._fill, slot))

    # Changes while the server serves

    @property
    def _active_slots(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.state is not SlotState.REMOVED]

    @property
    def count(self) -> int:
        """How many workers there are to be."""
        return len(self._active_slots)

    def roll(self, generation: Generation) -> None:
        """Replaces every worker of another generation. A roll that is under way goes on with the new one. Does nothing
        after `stop`."""
        self._target = generation
        if self._successor is None:
            self._roll_next()

    def _roll_next(self) -> None:
        target = self._target
        if target is None or self._workers.stopping:
            return
        others = [slot for slot in self._active_slots if slot.generation is not target]
        slot = next((slot for slot in others if slot.worker is not None), None)
        if slot is not None:
            worker = self._start_worker(slot, target)
            if worker is not None:
                self._successor = _Successor(slot, worker, target)
            else:
                self._target = None
            return
        for slot in others:  # they are empty, and their next worker is of the new generation
            slot.generation = target
        self.generation, self._target = target, None
        logger.info("The workers have been replaced.")

    def _on_successor_report(self, successor: _Successor, report: Report) -> None:
        slot, worker, generation = successor
        if report is Report.READY:
            self._successor = None
            predecessor, slot.worker = slot.worker, worker
            slot.state, slot.generation, self.generation = SlotState.READY, generation, generation
            slot.started_at = self._loop.clock()
            if predecessor is not None:
                self._workers.retire(predecessor)
            worker.serve()
            self._roll_next()
        elif report in (Report.START_FAILED, Report.ENDED):
            self._successor = None
            if report is Report.ENDED:
                self._workers.ended(worker)
            if slot.worker is None:
                self._fill(slot)
            if generation is self._target:
                self._target = None
                logger.error(
                    "Worker %d is not replaced: its successor did not start. The workers stay.", slot.number + 1
                )
            else:
                self._roll_next()

    def add_worker(self) -> None:
        slot = next((slot for slot in self.slots if slot.state is SlotState.REMOVED), None)
        if slot is None:
            slot = Slot(len(self.slots), self.generation)
            self.slots.append(slot)
        else:
            slot.state, slot.generation = SlotState.NEW, self.generation
        self._fill(slot)

    def remove_worker(self) -> None:
        """Not to be called for the last one. A sibling accepts from its sockets."""
        slot = self._active_slots[-1]
        if slot.retry is not None:
            slot.retry.cancel()
        if slot.worker is not None:
            self._workers.retire(slot.worker)
        self._remove(slot)

    def _remove(self, slot: Slot) -> None:
        slot.worker, slot.state = None, SlotState.REMOVED
        if self._successor is not None and self._successor.slot is slot:
            self._workers.retire(self._successor.worker)
            self._successor = None
            self._roll_next()

    # The end

    @property
    def abandoned_threads(self) -> bool:
        """Has a worker thread been abandoned? It runs until the process exits."""
        return self._workers.abandoned_threads

    def stop(self, timeout: float | None) -> None:
        """Lets every worker drain and end. After `timeout` seconds requests in flight are cancelled; None: never."""
        if self._workers.stopping:
            return
        self.watchdog.stop()
        for slot in self.slots:
            if slot.retry is not None:
                slot.retry.cancel()
        self._workers.stop(timeout)

    def abort(self) -> None:
        """Ends at once what has not ended yet. Not before `stop`."""
        self._workers.abort()

    def _all_ended(self) -> None:
        self._lifespan_log.pool_ended()
        self._owner.pool_ended()
