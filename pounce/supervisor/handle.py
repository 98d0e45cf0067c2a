"""A worker as the supervisor sees it, whether it runs on a thread or in a process.

Owner: the supervisor's thread.
"""

from collections.abc import Callable
from typing import Protocol

from pounce.worker.census import InFlight
from pounce.worker.control import Report

CHECK_INTERVAL = 0.2
"""Seconds between two calls of `WorkerHandle.blocked_for`."""

type OnReport = Callable[[Report], object]
"""Called on the supervisor's thread with each report of one worker. `Report.ENDED` is the last."""


class WorkerHandle(Protocol):
    number: int
    """The slot's."""
    name: str
    """The thread or process, for the log."""

    @property
    def exit_code(self) -> int | None:
        """0: in order; otherwise as of a shell. None while it runs."""

    def start(self) -> None:
        """Raises OSError or RuntimeError when no descriptor, thread, process or memory is left."""

    def serve(self) -> None:
        """Accepts clients, once its application has started."""

    def retire(self, heir: "WorkerHandle | None" = None, *, hurry: bool = False) -> None:
        """Leaves its sockets to a successor and drains. The server goes on. `heir`: a worker that is ready, which gets
        the connections that wait for a request, where both are threads. `hurry`: WebSockets and event streams end at
        once."""

    def stop(self) -> None:
        """Drains and ends. A worker that starts ends as soon as it can."""

    def cancel(self) -> None:
        """Cancels what it has in flight: the graceful timeout has passed."""

    def abort(self) -> None:
        """Ends at once, without its lifespan's shutdown."""

    def kill(self) -> bool:
        """Ends the process. False for a thread, which cannot be ended from outside."""

    def join(self) -> None:
        """Waits for the thread of a worker that has reported its end."""

    def accept_for(self, number: int) -> None:
        """Accepts from the sockets of this slot, too."""

    def stop_accepting_for(self, number: int) -> None: ...

    def blocked_for(self, now: float) -> float:
        """Seconds for which it has not turned its loop, as far as is known at the time `now`."""

    @property
    def hung(self) -> bool:
        """Has nothing in it answered, neither its loop nor its side channel, within --timeout-worker-healthcheck?"""

    def describe_block(self) -> tuple[str, str]:
        """What a blocked worker is doing: the request, and the stack, innermost line first."""

    def running(self) -> int:
        """How many requests are in flight; of a process, when it has last answered a question."""

    def in_flight(self) -> InFlight:
        """As of the last answer; asks a process again."""

    def give_up(self) -> None:
        """It is blocked for too long, and another replaces it. A process is killed; a thread retires if it ever turns
        its loop again."""
