"""The position of one worker in the pool. Its number chooses the listening sockets; the worker in it may be replaced.

    NEW       no worker has been ready here. If the first one does not start, the slot is removed again
    EMPTY     its worker is gone; the next one starts now, or after a delay
    STARTING  its next worker starts
    READY     its worker serves, as soon as clients are let in
    REMOVED   it has no worker, until the pool grows again

Owner: the supervisor's thread.
"""

import enum

from pounce.kernel.loop import Timer
from pounce.supervisor.generation import Generation
from pounce.supervisor.handle import WorkerHandle


class SlotState(enum.Enum):
    NEW = "new"
    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    REMOVED = "removed"


TRANSITIONS = {
    SlotState.NEW: {SlotState.READY, SlotState.REMOVED},
    SlotState.EMPTY: {SlotState.STARTING, SlotState.READY, SlotState.REMOVED},
    SlotState.STARTING: {SlotState.READY, SlotState.EMPTY, SlotState.REMOVED},
    SlotState.READY: {SlotState.STARTING, SlotState.EMPTY, SlotState.REMOVED},
    SlotState.REMOVED: {SlotState.NEW},
}
"""What may follow on each state. EMPTY is followed by READY where the successor of a roll takes the slot."""


class Slot:
    def __init__(self, number: int, generation: Generation) -> None:
        self.number = number
        self.generation = generation
        """Of its worker; without a worker, of its next one."""
        self.state = SlotState.NEW
        self.worker: WorkerHandle | None = None
        self.started_at = 0.0
        """When its worker was started, by the loop's clock."""
        self.failed_at = 0.0
        """When it last lost its worker, by the loop's clock; 0.0 while it has one that is ready."""
        self.quick_failures = 0
        self.retry: Timer | None = None
        """Set while the next worker waits for its delay."""

    @property
    def ready(self) -> bool:
        return self.state is SlotState.READY
