"""SIGUSR2 again and again under load: a new server process takes the listening sockets over, and no request fails.

The next signal is sent when the old process has ended, and new connections are answered by the new one. 10 signals for
each minute, directly and as many behind HAProxy, so that a run is as long as the upgrades take.
"""

import asyncio
import signal
import time

from stress.kit.errors import Unmeasured
from stress.kit.machine import adopt_orphans
from stress.kit.pounce_server import get
from stress.kit.scenario import Report, Setting
from stress.kit.steady_load import Replacement, replaced_under_load

TOOLS = ("wrk", "haproxy")

PER_MINUTE = 10


async def upgrade(one: Replacement) -> float:
    when = time.monotonic_ns()
    code = await asyncio.to_thread(one.server.upgrade)
    if code:
        raise Unmeasured(f"the old server has ended with {code}")
    took = (time.monotonic_ns() - when) / 1e9
    return took if int(await asyncio.to_thread(get, one.server.address, "/loaded")) > when else float("inf")


def run(setting: Setting, report: Report) -> None:
    adopt_orphans()
    replaced_under_load(setting, report, signal.SIGUSR2, upgrade, max(1, round(setting.minutes * PER_MINUTE)))
