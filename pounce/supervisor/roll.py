"""The roll: workers that serve are replaced, one slot after the other. A successor is ready before its predecessor
retires.

`begin` replaces every worker of other generations. Where a successor does not get ready, its predecessor stays and the
roll ends, so a generation that has not started anywhere replaces no worker. A newer roll replaces one that is under
way: the successor that is starting then ends, because its start may hang, and its application is out of date.

`renew` replaces one worker by another of its own generation.

Owner: the supervisor's thread.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pounce.supervisor.generation import Generation
from pounce.supervisor.handle import WorkerHandle
from pounce.supervisor.slot import Slot
from pounce.supervisor.workers import Workers
from pounce.worker.control import Report

logger = logging.getLogger("pounce.error")


class Replacing(Protocol):
    """What a roll asks of the pool."""

    @property
    def active_slots(self) -> Sequence[Slot]: ...

    def start_worker(self, slot: Slot, generation: Generation) -> WorkerHandle | None:
        """Starts a worker beside the one in the slot. None if there can be none now, which has been logged."""

    def take_slot(self, slot: Slot, worker: WorkerHandle, generation: Generation) -> None:
        """The worker is ready: it serves, and the one in the slot retires."""

    def fill(self, slot: Slot) -> None:
        """Starts a worker in an empty slot."""

    def renewal_failed(self, slot: Slot, worker: WorkerHandle) -> None:
        """The worker stays for now, because its successor has not started."""

    def roll_ended(self, generation: Generation, failure: str) -> None:
        """`failure`: why the workers stay; empty: every slot has the generation."""


class _Successor(NamedTuple):
    """The worker that is starting to replace the one in a slot."""

    slot: Slot
    worker: WorkerHandle
    generation: Generation


class Roll:
    def __init__(self, pool: Replacing, workers: Workers) -> None:
        self._pool = pool
        self._workers = workers
        self._target: Generation | None = None
        """What the others are replaced by; None: no roll is under way."""
        self._admitted = False  # may the target serve?
        self._renewals: list[tuple[Slot, WorkerHandle]] = []
        """Workers that wait to be renewed."""
        self._successor: _Successor | None = None

    def begin(self, generation: Generation) -> None:
        """Not while another roll is under way: `cancel` it first."""
        self._drop_successor()  # of a renewal
        self._target, self._admitted = generation, False
        self._next()

    def cancel(self) -> None:
        """Ends a roll that is under way, without success. Does nothing otherwise."""
        target, self._target = self._target, None
        self._drop_successor()
        if target is not None:
            self._pool.roll_ended(target, "a newer generation follows")

    def renew(self, slot: Slot, worker: WorkerHandle) -> None:
        """Does nothing if the worker has lost the slot by the time its turn has come."""
        self._renewals.append((slot, worker))
        if self._successor is None:
            self._next()

    def stop(self) -> None:
        """The pool stops, and its workers with it."""
        self._target = None
        self._renewals.clear()

    def _drop_successor(self) -> None:
        successor, self._successor = self._successor, None
        if successor is not None:
            self._workers.drop(successor.worker)
            if successor.slot.worker is None:
                self._pool.fill(successor.slot)

    def _next(self) -> None:
        if self._target is not None and not self._replace_next(self._target):
            return
        while self._renewals and self._successor is None:
            slot, worker = self._renewals.pop(0)
            if slot.worker is worker and not self._start(slot, slot.generation):
                self._pool.renewal_failed(slot, worker)

    def _start(self, slot: Slot, generation: Generation) -> bool:
        worker = self._pool.start_worker(slot, generation)
        if worker is not None:
            self._successor = _Successor(slot, worker, generation)
        return worker is not None

    def _replace_next(self, target: Generation) -> bool:
        """Starts the next successor of the target. Has the roll ended?"""
        others = [slot for slot in self._pool.active_slots if slot.generation is not target]
        slot = next((slot for slot in others if slot.worker is not None), None)
        if slot is not None:
            if self._start(slot, target):
                return False
            self._end("no worker of it can be started")
            return True
        for slot in others:  # they are empty, and their next worker is of the new generation
            slot.generation = target
        if not target.config.should_reload:  # whose own line says more
            logger.info("The workers have been replaced.")
        self._end("")
        return True

    def _end(self, failure: str) -> None:
        target, self._target = self._target, None
        assert target is not None
        self._pool.roll_ended(target, failure)

    def is_successor(self, worker: WorkerHandle) -> bool:
        return self._successor is not None and self._successor.worker is worker

    def has_successor(self, slot: Slot) -> bool:
        """Is a worker starting that will take this slot?"""
        return self._successor is not None and self._successor.slot is slot

    def on_report(self, report: Report) -> None:
        """From the successor."""
        assert self._successor is not None
        slot, worker, generation = self._successor
        if report is Report.READY:
            obstacle = ""
            if generation is self._target and not self._admitted:
                obstacle = generation.may_serve()
            if obstacle:
                logger.error("The workers are not replaced, because %s.", obstacle)
                self._drop_successor()
                self._end(obstacle)
            else:
                self._successor, self._admitted = None, True
                self._pool.take_slot(slot, worker, generation)
            self._next()
        elif report in (Report.START_FAILED, Report.ENDED):
            logger.error("Worker %d is not replaced: its successor did not start. The workers stay.", slot.number + 1)
            self._successor = None
            if slot.worker is None:
                self._pool.fill(slot)
            elif generation is not self._target:
                self._pool.renewal_failed(slot, slot.worker)
            if generation is self._target:
                self._end("its application did not start")
            self._next()

    def slot_removed(self, slot: Slot) -> None:
        if self.has_successor(slot):
            assert self._successor is not None
            worker, self._successor = self._successor.worker, None
            self._workers.drop(worker)
            self._next()
