"""What the service manager is told all the while: that the server is alive, what it does, how long its end may take.

    WATCHDOG=1            at half of WATCHDOG_USEC while the server is live (see `health`). systemd ends a service that
                          is silent for that time, and starts it again
    STATUS=               for `systemctl status`, when it has changed, every STATUS_INTERVAL at most
    EXTEND_TIMEOUT_USEC=  at the beginning of the end: the time after which the server ends in any case, by the graceful
                          timeout. systemd waits for so long, even if TimeoutStopSec= is shorter. Without that timeout
                          there is no such time, so systemd is asked for more again and again

A message that the manager does not read is lost, because these must not hold up the server. In a server that has been
replaced by a new process only that one reports.

Owner: the supervisor's thread. A request that blocks the only worker holds up the reports, too, where that has this
thread: so it is meant.
"""

import os
from collections import Counter

from pounce.kernel.loop import Loop, Timer
from pounce.supervisor import systemd
from pounce.supervisor.health import Health
from pounce.supervisor.interpreter_exit import ATEXIT_TIMEOUT, THREAD_GRACE
from pounce.supervisor.workers import ABORT_GRACE
from pounce.worker.worker import CANCEL_GRACE

STATUS_INTERVAL = 10.0
"""Seconds between two changes of the status."""
SUCCESSOR_DELAY = 1.0
"""Seconds until a new server process reports for the first time. Its predecessor needs a moment to make it the main
process, and systemd logs the messages of any other."""
EXTENSION = 3 * STATUS_INTERVAL
"""Seconds for which the manager is asked where the end has no limit."""

_UNREMARKABLE = ("ready", "serving", "draining")
"""Conditions of workers that the status does not count."""


def longest_end(grace: float) -> float:
    """Seconds after which a server that stops has ended, whatever its requests, its lifespan, its threads and its
    functions of `atexit` do. `grace`: the graceful timeout."""
    of_workers = grace + CANCEL_GRACE + grace + 2 * ABORT_GRACE
    return of_workers + THREAD_GRACE + max(ATEXIT_TIMEOUT, grace)


class ServiceReports:
    def __init__(self, loop: Loop, health: Health, *, owns_process: bool) -> None:
        """`owns_process`: the process is the server's alone. Then the application does not see the variables of the
        watchdog, which has its answers from here."""
        self._loop = loop
        self._health = health
        take = os.environ.pop if owns_process else os.environ.get
        self._watchdog_usec, self._watchdog_pid = take("WATCHDOG_USEC", ""), take("WATCHDOG_PID", "")
        self._watchdog: float | None = None
        """Seconds between two messages; None: the manager wants none."""
        self._phase = "Serving"
        self._status = ""
        """What was sent last."""
        self._status_due = 0.0
        self._extends = False
        self._timer: Timer | None = None

    def start(self, *, has_predecessor: bool) -> None:
        """Clients are let in. `has_predecessor`: another server process has started this one."""
        if not systemd.listens():
            return
        named = self._watchdog_pid in ("", str(os.getpid())) or has_predecessor
        if named and self._watchdog_usec.isdecimal() and int(self._watchdog_usec) > 0:
            self._watchdog = int(self._watchdog_usec) / 1e6 / 2
        if has_predecessor:
            self._timer = self._loop.call_later(min(SUCCESSOR_DELAY, self._interval), self._report)
        else:
            self._report()

    @property
    def _interval(self) -> float:
        return STATUS_INTERVAL if self._watchdog is None else min(self._watchdog, STATUS_INTERVAL)

    def _report(self) -> None:
        now = self._loop.clock()
        self._timer = self._loop.call_later(self._interval, self._report)
        lines = ["WATCHDOG=1"] if self._watchdog is not None and self._health.live else []
        if self._extends:
            lines.append(_extension(EXTENSION))
        status = self._describe() if now >= self._status_due else self._status
        if status != self._status:
            lines.append(f"STATUS={status}")
        if lines and systemd.notify(*lines, timeout=0) and status != self._status:
            self._status, self._status_due = status, now + STATUS_INTERVAL

    def _describe(self) -> str:
        workers = self._health.workers()
        conditions = Counter(worker.state for worker in workers)
        parts = [f"{len(workers)} worker{'s' * (len(workers) != 1)}"]
        parts += [f"{count} {state}" for state, count in sorted(conditions.items()) if state not in _UNREMARKABLE]
        running = self._health.pool.workers.running() if self._health.pool is not None else 0
        return f"{self._phase}: {', '.join(parts)}, {running} request{'s' * (running != 1)} in flight"

    def stopping(self, grace: float | None, delay: float = 0.0) -> None:
        """The server begins to end, after `delay` seconds. `grace`: the graceful timeout; None: no limit."""
        systemd.notify("STOPPING=1", _extension(EXTENSION if grace is None else delay + longest_end(grace)))
        self._phase, self._status_due = "Shutting down", 0.0
        self._extends = grace is None
        self.close()
        if systemd.listens():
            self._report()

    def close(self) -> None:
        """The server ends, or another process reports."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _extension(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"
