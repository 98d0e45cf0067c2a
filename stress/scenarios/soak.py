"""Mixed traffic for as long as you like, in rounds. After each round, when every client has gone, the server must
hold what it held after the first one: memory, descriptors, threads, tasks and connections, and objects at all.

What is made when it is first needed comes in the first third of the rounds. From the middle third to the last, by their
medians, nothing grows any more but by chance: gc's objects, blocks of Python's allocator (bytes and strings are among
them), bytes lent by malloc, and memory that was written to. That last one grows longest, as allocators keep what they
cannot join; what malloc has lent does not. The more requests, the smaller the leak that shows: it is said how small.
"""

import asyncio
import contextlib
import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pounce.connections.context import LINGER_TIMEOUT
from pounce.connections.websocket import CLOSE_TIMEOUT
from stress.kit.actions import MIXED
from stress.kit.clients import Tally, Traffic
from stress.kit.machine import tree
from stress.kit.pounce_server import Pounce, Vitals
from stress.kit.scenario import MIB, THREADS, Report, Setting, percentile

TOOLS = ()

CLIENTS = 32
ROUNDS = 9  # at least: three for each median
NOISE = 8 * MIB  # what an allocator may keep more or less of, by chance; and a tenth of the whole
# The same from the middle third to the last, for each worker. It remembers some heads, and forgets them all at a time.
SLOPE = {"objects": 500, "blocks": 3000, "malloc": MIB // 4, "memory": 2 * MIB}
PATIENCE = CLOSE_TIMEOUT + LINGER_TIMEOUT + 1  # seconds until the last connection has ended
HELPERS = min(32, (os.process_cpu_count() or 1) + 4)  # of a process: ThreadPoolExecutor's default
KINDS = ("HTTP1Connection", "WebSocketConnection", "SocketStream", "Exchange", "WebSocketExchange", "Task")


@dataclass(frozen=True)
class Sample:
    vitals: Vitals
    tasks: Counter[str]
    objects: int
    blocks: int
    malloc: int
    memory: int
    """Bytes that are no file's. What is shared with a file counts for less when a neighbour starts the same program."""


def tasks(census: Counter[str]) -> Counter[str]:
    """Those of the census's own request in each process are among them."""
    return Counter({kind: census[kind] for kind in KINDS if census[kind]})


def sample(server: Pounce, at_rest: int) -> Sample:
    """When all have gone: connections that the client has ended have the time that they have without that."""
    until = time.monotonic() + PATIENCE
    while tasks(census := server.quiet()).total() > at_rest and time.monotonic() < until:
        time.sleep(0.2)
    figures = (census[name] for name in ("objects", "blocks", "malloc"))
    return Sample(server.vitals(), tasks(census), *figures, anonymous(server.pid))


def anonymous(leader: int) -> int:
    total = 0
    for process in tree(leader):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
    return total


def later_growth(samples: list[Sample], name: str) -> float:
    """From the middle third of the rounds to the last."""
    figures, third = [getattr(each, name) for each in samples], len(samples) // 3
    return statistics.median(figures[-third:]) - statistics.median(figures[-2 * third : -third])


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    rounds = max(ROUNDS, round(setting.minutes))
    seconds = setting.seconds / rounds
    pools = 1 if THREADS else workers
    with Pounce(setting, workers=workers) as server:
        at_rest, threads = tasks(server.quiet()).total(), server.vitals().threads
        samples: list[Sample] = []
        tallies: list[Tally] = []
        for number in range(rounds):
            tally = asyncio.run(_round(server, seconds, number))
            samples.append(sample(server, at_rest))
            tallies.append(tally)
            report.say(f"{tally}; p95 {percentile(tally.times, 95) * 1e3:.1f} ms")
            now = samples[-1]
            report.say(
                f"then {now.vitals}, {now.memory >> 10} KiB no file's, {now.malloc >> 10} KiB by malloc, "
                f"{now.blocks} blocks, {now.objects} objects, {now.tasks.total()} tasks and connections"
            )
        kinds = sum((tally.kinds for tally in tallies), start=type(tallies[0].kinds)())
        total = sum(tally.sent for tally in tallies)
        report.say(f"{total} requests: " + ", ".join(f"{name} {count}" for name, count in kinds.most_common()))
        cuts = [str(cut) for tally in tallies for cut in tally.cuts]
        wrong = [text for tally in tallies for text in tally.wrong]
        report.check(all(tally.balances for tally in tallies), "every request is accounted for")
        report.check(not cuts, f"requests cut: {len(cuts)} {cuts[:3] or ''}")
        report.check(not wrong, f"answers wrong: {len(wrong)} {wrong[:3] or ''}")
        report.check(not any(tally.refused or tally.again for tally in tallies), "requests refused: 0")
        first, last = samples[0], samples[-1]
        growth = last.vitals.memory - first.vitals.memory
        later = sum(tally.sent for tally in tallies[1:])
        report.check(
            growth <= NOISE + first.vitals.memory / 10,
            f"memory {first.vitals.memory / MIB:.1f} -> {last.vitals.memory / MIB:.1f} MiB, "
            f"{growth / max(later, 1):.1f} bytes a request",
        )
        between = total / 3
        for name, noise in SLOPE.items():
            grown = later_growth(samples, name)
            report.check(
                grown <= noise * workers,
                f"{name} from the middle third to the last: {grown:+.0f}, {grown / between:+.4f} a request "
                f"(more than {noise * workers / between:.4f} would be a leak)",
            )
        report.check(last.vitals.fds <= first.vitals.fds, f"fds {first.vitals.fds} -> {last.vitals.fds}")
        # Helper threads are made when so many are needed at a time for the first time, which may be late.
        report.check(
            last.vitals.threads <= threads + pools * HELPERS,
            f"threads {threads} at rest, {first.vitals.threads} -> {last.vitals.threads}, "
            f"{pools * HELPERS} of them may be helpers",
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
