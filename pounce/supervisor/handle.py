"""What the supervisor holds of a worker, whether it is a thread or a process, and what it is told by one.

Owner: the supervisor's thread.
"""

from collections.abc import Callable
from typing import Protocol

from pounce.worker.census import Unfinished
from pounce.worker.control import Report

type Told = Callable[[Report], object]


class WorkerHandle(Protocol):
    """What the supervisor holds of a worker, whether it is a thread or a process."""

    name: str

    @property
    def exit_code(self) -> int | None:
        """How it ended: 0 in order, otherwise as of a shell; None while it lives."""

    def start(self) -> None: ...
    def serve(self) -> None: ...
    def retire(self) -> None: ...
    def stop(self) -> None: ...
    def cancel(self) -> None: ...
    def abandon(self) -> None: ...
    def kill(self) -> bool: ...
    def join(self) -> None: ...
    def stand_in(self, number: int) -> None: ...
    def step_back(self, number: int) -> None: ...
    def blocked_for(self, now: float) -> float:
        """Seconds for which it has not turned its loop, as far as can be told now."""

    @property
    def hung(self) -> bool:
        """Has it not answered for longer than it may, neither its loop nor anything else in it?"""

    def describe(self) -> tuple[str, str]:
        """What a blocked worker is doing: the request, and the stack, innermost line first."""

    def unfinished(self) -> Unfinished:
        """What it still has to finish, as far as that is known; a process is asked for the next time."""

    def lose(self) -> None:
        """Gives a blocked worker up. Another takes its place."""
