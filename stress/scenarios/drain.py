"""Restarts under load behind HAProxy: two servers, one of which is always being restarted. No request may fail.

The proxy is configured as its manual recommends: a health check, redispatch, and another attempt where no connection
could be made (the default of retry-on) or the server has closed an idle one. It never sends a request again that a
server may have begun to serve; POST and streamed responses are among the requests.
"""

import asyncio
import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator

from stress.kit.actions import HARMLESS, fresh, ticking
from stress.kit.clients import Tally, Traffic
from stress.kit.errors import Unmeasured
from stress.kit.load import tool
from stress.kit.pounce_server import Pounce, get
from stress.kit.scenario import Report, Setting

TOOLS = ("haproxy",)

CLIENTS = 24
LOG = "haproxy.log"
PAUSE = 900  # milliseconds; when its only server refuses a connection, HAProxy waits for a second
LINE = re.compile(r" pounce/\S+ \d+/(-?\d+)/\S+ (\d+) ")
"""A line of HAProxy's log: milliseconds of all attempts before the last one, and the status."""
CONFIG = """
global
    maxconn 4000
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s
    option redispatch
    retries 3
    option httpchk GET /
    default-server check inter 100ms fall 1 rise 1
frontend all
    bind 127.0.0.1:{port}
    default_backend pounce
frontend about
    bind 127.0.0.1:{about}
    stats enable
    stats uri /stats
backend pounce
    balance roundrobin
    server a 127.0.0.1:{a}
    server b 127.0.0.1:{b}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def both_up(about: int) -> bool:
    """Does the proxy consider both servers up?"""
    rows = [line.split(",") for line in get(("127.0.0.1", about), "/stats;csv").decode().splitlines()]
    return sum(row[0] == "pounce" and row[1] in ("a", "b") and row[17] == "UP" for row in rows if len(row) > 17) == 2


@contextlib.contextmanager
def haproxy(setting: Setting, a: int, b: int) -> Iterator[tuple[int, int]]:
    """The ports of the proxy and of its statistics, when both servers are up."""
    port, about = free_port(), free_port()
    config, log = setting.folder / "haproxy.cfg", setting.folder / LOG
    config.write_text(CONFIG.format(port=port, about=about, a=a, b=b))
    with open(log, "wb") as output:
        process = subprocess.Popen([tool("haproxy") or "haproxy", "-f", str(config), "-db"], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, Unmeasured):
                if both_up(about):
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unmeasured(f"haproxy does not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        yield port, about
    finally:
        process.terminate()
        process.wait(30)


async def _restarts(traffic: Traffic, servers: list[Pounce], seconds: float, about: int) -> list[int]:
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
            while not await asyncio.to_thread(both_up, about):
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
    finally:
        await traffic.stop()
    return codes


def _log_proxy(report: Report, log: str) -> None:
    """Logs how often the proxy had to wait, and the requests that it failed."""
    found = [(int(parts[1]), int(parts[2]), line) for line in log.splitlines() if (parts := LINE.search(line))]
    waits = [wait for wait, _, _ in found if wait >= PAUSE]
    report.log(f"the proxy waited before {len(waits)} requests, at most {max(waits, default=0) / 1e3:.2f} s")
    for line in [line for _, status, line in found if status >= 500][:5]:
        report.log(f"the proxy's log: {line}")


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Pounce(setting, workers=workers)) for _ in range(2)]
        port, about = stack.enter_context(haproxy(setting, *(server.port for server in servers)))
        actions = HARMLESS | {ticking: 10, fresh: 20}
        traffic = Traffic(("127.0.0.1", port), actions, CLIENTS, Tally())
        codes = asyncio.run(_restarts(traffic, servers, setting.seconds, about))
        tally = traffic.tally
        report.log(f"{len(codes)} restarts; {tally}")
        report.log(", ".join(f"{name} {count}" for name, count in tally.kinds.most_common()))
        report.check(tally.balances, "every request is accounted for")
        failed = len(tally.lost) + len(tally.wrong) + tally.refused + tally.not_connected
        what = [str(each) for each in tally.lost[:3]] + tally.wrong[:3]
        _log_proxy(report, (setting.folder / LOG).read_text(errors="replace"))
        report.check(not failed, f"failed requests: {failed} of {tally.sent} {what or ''}")
        report.check(len(codes) >= 2, f"{len(codes)} servers ended, with {sorted(set(codes))}")
        log = "".join(server.log for server in servers)
        report.check("Traceback" not in log, f"tracebacks in the logs: {log.count('Traceback')}")
