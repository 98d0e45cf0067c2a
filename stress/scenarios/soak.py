"""Mixed traffic in rounds. After each round, when every client has disconnected, the server must use what it used after
the first round: memory, descriptors, threads, tasks, connections and objects.

What is created on first use appears in the first third of the rounds. From the middle third to the last, by their
medians, growth within the noise is accepted of: gc's objects, blocks of Python's allocator (which include bytes and
strings), bytes allocated by malloc, and anonymous memory. Anonymous memory grows longest, as allocators keep fragments.
The more requests, the smaller the leak that is visible; the report says how small.
"""

import asyncio
import contextlib
import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pounce.asgi.exchange import Exchange
from pounce.asgi.websocket import WebSocketExchange
from pounce.connections.context import LINGER_TIMEOUT
from pounce.connections.http1 import HTTP1Connection
from pounce.connections.websocket import CLOSE_TIMEOUT, WebSocketConnection
from pounce.kernel.task import Task
from pounce.net.stream import SocketStream
from stress.kit.actions import MIXED
from stress.kit.clients import Tally, Traffic
from stress.kit.machine import tree
from stress.kit.pounce_server import Pounce, Usage
from stress.kit.scenario import MIB, THREADS, Report, Setting, percentile

TOOLS = ()

CLIENTS = 32
ROUNDS = 9  # at least: three for each median
NOISE = 8 * MIB  # of what an allocator keeps, and a tenth of the memory before
# The same from the middle third to the last, for each worker, whose caches of heads fill and are emptied at once.
SLOPE = {"objects": 500, "blocks": 3000, "malloc": MIB // 4, "memory": 2 * MIB}
END = CLOSE_TIMEOUT + LINGER_TIMEOUT + 1  # seconds until the last connection is closed
HELPERS = min(32, (os.process_cpu_count() or 1) + 4)  # threads of ThreadPoolExecutor, by default, in a process
KINDS = [
    kind.__name__ for kind in (HTTP1Connection, WebSocketConnection, SocketStream, Exchange, WebSocketExchange, Task)
]


@dataclass(frozen=True)
class Sample:
    usage: Usage
    tasks: Counter[str]
    objects: int
    blocks: int
    malloc: int
    memory: int
    """Bytes of anonymous memory. The share of mapped files changes when another process maps the same files."""


def tasks(counts: Counter[str]) -> Counter[str]:
    """The server's tasks and connections; those of the request that counts them are included."""
    return Counter({kind: counts[kind] for kind in KINDS if counts[kind]})


def sample(server: Pounce, at_rest: int) -> Sample:
    """When all clients have disconnected, and connections that linger have had the time for it."""
    until = time.monotonic() + END
    while tasks(counts := server.wait_idle()).total() > at_rest and time.monotonic() < until:
        time.sleep(0.2)
    figures = (counts[name] for name in ("objects", "blocks", "malloc"))
    return Sample(server.usage(), tasks(counts), *figures, anonymous(server.pid))


def anonymous(leader: int) -> int:
    total = 0
    for process in tree(leader):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
    return total


def later_growth(samples: list[Sample], name: str) -> float:
    """Growth of the median from the middle third of the rounds to the last."""
    figures, third = [getattr(each, name) for each in samples], len(samples) // 3
    return statistics.median(figures[-third:]) - statistics.median(figures[-2 * third : -third])


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    rounds = max(ROUNDS, round(setting.minutes))
    seconds = setting.seconds / rounds
    pools = 1 if THREADS else workers
    with Pounce(setting, workers=workers) as server:
        at_rest, threads = tasks(server.wait_idle()).total(), server.usage().threads
        samples: list[Sample] = []
        tallies: list[Tally] = []
        for number in range(rounds):
            tally = asyncio.run(_round(server, seconds, number))
            samples.append(sample(server, at_rest))
            tallies.append(tally)
            report.log(f"{tally}; p95 {percentile(tally.times, 95) * 1e3:.1f} ms")
            now = samples[-1]
            report.log(
                f"then {now.usage}, {now.memory >> 10} KiB anonymous, {now.malloc >> 10} KiB by malloc, "
                f"{now.blocks} blocks, {now.objects} objects, {now.tasks.total()} tasks and connections"
            )
        kinds = sum((tally.kinds for tally in tallies), start=type(tallies[0].kinds)())
        total = sum(tally.sent for tally in tallies)
        report.log(f"{total} requests: " + ", ".join(f"{name} {count}" for name, count in kinds.most_common()))
        lost = [str(each) for tally in tallies for each in tally.lost]
        wrong = [text for tally in tallies for text in tally.wrong]
        report.check(all(tally.balances for tally in tallies), "every request is accounted for")
        report.check(not lost, f"requests lost: {len(lost)} {lost[:3] or ''}")
        report.check(not wrong, f"wrong responses: {len(wrong)} {wrong[:3] or ''}")
        report.check(not any(tally.refused or tally.retriable for tally in tallies), "requests refused: 0")
        first, last = samples[0], samples[-1]
        growth = last.usage.memory - first.usage.memory
        later = sum(tally.sent for tally in tallies[1:])
        report.check(
            growth <= NOISE + first.usage.memory / 10,
            f"memory {first.usage.memory / MIB:.1f} -> {last.usage.memory / MIB:.1f} MiB, "
            f"{growth / max(later, 1):.1f} bytes a request",
        )
        between = total / 3
        for name, noise in SLOPE.items():
            grown = later_growth(samples, name)
            report.check(
                grown <= noise * workers,
                f"{name} from the middle third to the last: {grown:+.0f}, {grown / between:+.4f} a request "
                f"(a leak would be more than {noise * workers / between:.4f})",
            )
        report.check(last.usage.fds <= first.usage.fds, f"fds {first.usage.fds} -> {last.usage.fds}")
        # The thread pool starts a thread when all others are busy, which may happen late.
        report.check(
            last.usage.threads <= threads + pools * HELPERS,
            f"threads {threads} at rest, {first.usage.threads} -> {last.usage.threads}, "
            f"{pools * HELPERS} of them may be of the thread pool",
        )
        report.check(last.tasks.total() <= at_rest, f"tasks and connections {at_rest} -> {dict(last.tasks)}")
        report.check(
            last.objects <= first.objects * 1.02 + 1000, f"objects {first.objects} -> {last.objects}"
        )  # fmt: skip
        server.stop()
        log = server.log
        report.check("Traceback" not in log, f"tracebacks in the log: {log.count('Traceback')}")


async def _round(server: Pounce, seconds: float, number: int) -> Tally:
    return await Traffic(server.address, MIXED, CLIENTS, seed=number).run(seconds)
