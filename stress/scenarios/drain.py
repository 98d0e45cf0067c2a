"""Restarts under load behind HAProxy: two servers, one of which is always being restarted. No request may fail.

The proxy never sends a request again that a server may have begun to serve (`stress.kit.proxy`); POST and streamed
responses are among the requests.
"""

import asyncio
import contextlib
import time

from stress.kit.actions import HARMLESS, fresh, ticking
from stress.kit.clients import Tally, Traffic
from stress.kit.pounce_server import Pounce
from stress.kit.proxy import Proxy, haproxy
from stress.kit.scenario import Report, Setting

TOOLS = ("haproxy",)

CLIENTS = 24


async def _restarts(traffic: Traffic, servers: list[Pounce], seconds: float, proxy: Proxy) -> list[int]:
    traffic.start()
    codes: list[int] = []
    end = time.monotonic() + seconds
    try:
        await asyncio.sleep(1)
        while time.monotonic() < end or len(codes) < len(servers):
            server = servers[len(codes) % len(servers)]
            codes.append(await asyncio.to_thread(server.stop))
            await asyncio.to_thread(server.start)
            await asyncio.sleep(0.3)  # until the proxy has noticed the restart
            while not await asyncio.to_thread(proxy.all_up):
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
    finally:
        await traffic.stop()
    return codes


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Pounce(setting, workers=workers)) for _ in range(2)]
        proxy = stack.enter_context(haproxy(setting.folder, *(server.port for server in servers)))
        actions = HARMLESS | {ticking: 10, fresh: 20}
        traffic = Traffic(proxy.address, actions, CLIENTS, Tally())
        codes = asyncio.run(_restarts(traffic, servers, setting.seconds, proxy))
        tally = traffic.tally
        report.log(f"{len(codes)} restarts; {tally}")
        report.log(", ".join(f"{name} {count}" for name, count in tally.kinds.most_common()))
        report.check(tally.balances, "every request is accounted for")
        proxy.report(report)
        report.check(not tally.failed, f"failed requests: {tally.failed} of {tally.sent} {tally.failures or ''}")
        report.check(len(codes) >= 2, f"{len(codes)} servers ended, with {sorted(set(codes))}")
        log = "".join(server.log for server in servers)
        report.check("Traceback" not in log, f"tracebacks in the logs: {log.count('Traceback')}")
