"""SIGHUP again and again under load: workers that load the application anew replace the old ones; no request fails.

The next signal is sent as soon as every worker of the new generation has started and new connections are answered by
it; workers of several older ones may still drain then. 50 signals for each minute, directly and as many behind HAProxy,
so that a run is as long as the restarts take.
"""

import os
import signal
import time

from stress.kit.pounce_server import get
from stress.kit.scenario import Report, Setting
from stress.kit.steady_load import READY, Replacement, replaced_under_load, until

TOOLS = ("wrk", "haproxy")

PER_MINUTE = 50
FRESH = 4  # new connections in a row that the new generation has to answer


async def restart(one: Replacement) -> float:
    when = time.monotonic_ns()
    os.kill(one.server.pid, signal.SIGHUP)
    started = await until(lambda: one.load.workers_loaded_after(when) >= one.workers, READY)
    return started + await until(
        lambda: all(int(get(one.server.address, "/loaded")) > when for _ in range(FRESH)), READY
    )  # fmt: skip


def run(setting: Setting, report: Report) -> None:
    replaced_under_load(setting, report, signal.SIGHUP, restart, max(1, round(setting.minutes * PER_MINUTE)))
