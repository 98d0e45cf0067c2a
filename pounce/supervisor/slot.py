"""The position of one worker in the pool.

Owner: the supervisor's thread.
"""

from pounce.kernel.loop import Timer
from pounce.supervisor.handle import WorkerHandle


class Slot:
    """The slot of one worker. Its number chooses its sockets; who stands in it may change."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerHandle | None = None
        self.successor: WorkerHandle | None = None
        """Who is starting, to take the slot of a worker that serves."""
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
        self.helper: Slot | None = None
        """Whose worker accepts instead."""
        self.told = 0
        """The level at which it was last looked whether to log that its worker is blocked; 0: not yet."""
        self.warned = False
        """Is it in the log as a warning?"""

    @property
    def able(self) -> bool:
        return self.worker is not None and self.ready and self.blocked_at is None
