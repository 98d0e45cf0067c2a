"""Is the server well? What probes, and the service manager, are told of it.

    live    a worker's loop turns, or will soon. If the server is not live, only a new process helps
    ready   clients are let in, the server does not leave, and a worker's loop turns. If it is not ready, a load
            balancer should send new clients to another server

A worker that starts has no loop that turns for as long as the application's import takes. So a server that starts is
live, because only its operator knows how long that may be; and one whose workers have all failed is live for
START_TIMEOUT.

Must never ask a worker anything: the watchdog has done so, and what it knows is 0.2 s old at most. Owner: the
supervisor's thread.
"""

from typing import Literal, NamedTuple, Protocol

from pounce.kernel.loop import Loop
from pounce.supervisor.pool import Pool
from pounce.supervisor.slot import Slot
from pounce.worker.readiness import Readiness

LIVE_TIMEOUT = 5.0
"""Seconds for which the loop of a worker that counts may not have turned."""
START_TIMEOUT = 90.0
"""Seconds in which a worker that has failed must have a successor that is ready: what systemd gives a service to start
(DefaultTimeoutStartSec)."""

type Condition = Literal["starting", "ready", "serving", "blocked", "restarting", "draining"]
"""Of a worker. `ready`: it waits for the others, before clients are let in. `restarting`: it has failed, and its
successor starts now or after a delay."""


type Phase = Literal["starting", "serving", "leaving", "stopping"]
"""Of the server. `leaving`: --drain-delay passes."""


class WorkerHealth(NamedTuple):
    number: int
    """As in the log: from 1."""
    name: str
    """The thread or process, as in the log; empty without one."""
    state: Condition
    blocked_for: float
    """Seconds for which its loop has not turned; 0 if it does."""


class Served(Protocol):
    """What is asked of the supervisor."""

    started: bool
    ready: bool
    readiness: Readiness

    @property
    def stopping(self) -> bool: ...


class Health:
    def __init__(self, loop: Loop, server: Served) -> None:
        self._loop = loop
        self._server = server
        self.pool: Pool | None = None
        """The present one; None before there is one."""

    @property
    def live(self) -> bool:
        """True also while the server starts, and while it stops, which has a bound of its own."""
        server = self._server
        if self.pool is None or not server.started or server.stopping:
            return True
        now = self._loop.clock()
        return any(
            self._turns(slot) or (slot.failed_at and now - slot.failed_at < START_TIMEOUT)
            for slot in self.pool.active_slots
        )

    @property
    def ready(self) -> bool:
        """True also while the server stops, where another server process has taken over its sockets."""
        return bool(self._server.readiness) and self.pool is not None and any(map(self._turns, self.pool.active_slots))

    @property
    def phase(self) -> Phase:
        """How far the server is."""
        server = self._server
        if server.stopping:
            return "stopping"
        return "starting" if not server.started else "serving" if server.ready else "leaving"

    def _turns(self, slot: Slot) -> bool:
        return slot.worker is not None and slot.ready and self._blocked_for(slot) < LIVE_TIMEOUT

    def _blocked_for(self, slot: Slot) -> float:
        assert self.pool is not None
        blocked_at = self.pool.watchdog.blocked_at(slot)
        return 0.0 if blocked_at is None else max(0.0, self._loop.clock() - blocked_at)

    def workers(self) -> list[WorkerHealth]:
        """One for each slot; a worker that drains while its slot has a successor is not among them."""
        slots = self.pool.active_slots if self.pool is not None else []
        return [self._of(slot) for slot in slots]

    def _of(self, slot: Slot) -> WorkerHealth:
        name = slot.worker.name if slot.worker is not None else ""
        if self._server.stopping:  # the watchdog has ended
            return WorkerHealth(slot.number + 1, name, "draining", 0.0)
        blocked_for = self._blocked_for(slot)
        state: Condition = "serving" if self._server.started else "ready"
        if blocked_for:
            state = "blocked"
        elif not slot.ready:
            state = "restarting" if slot.failed_at else "starting"
        return WorkerHealth(slot.number + 1, name, state, blocked_for)
