"""Mixed traffic for as long as you like, in rounds. After each round, when every client has gone, the server must
hold what it held after the first one: memory, descriptors, threads, tasks and connections, and objects at all.
"""

import asyncio
import os
from dataclasses import dataclass

from stress.clients import MIXED, Traffic
from stress.scene import MIB, THREADS, Pounce, Report, Setting, Vitals, percentile

ABOUT = "mixed traffic with slow readers and vanishing clients; nothing may grow"
TOOLS = ()

CLIENTS = 32
NOISE = 8 * MIB  # what an allocator may keep more or less of, by chance; and a tenth of the whole
HELPERS = min(32, (os.process_cpu_count() or 1) + 4)  # of a process: ThreadPoolExecutor's default
KINDS = ("HTTP1Connection", "Stream", "Exchange", "Task")


@dataclass(frozen=True)
class Sample:
    vitals: Vitals
    tasks: int
    objects: int


def sample(server: Pounce) -> Sample:
    census = server.quiet()
    # The census is itself a request in each process.
    return Sample(server.vitals(), sum(census[kind] for kind in KINDS), census["objects"])


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    rounds = max(4, round(setting.minutes))
    seconds = setting.seconds / rounds
    pools = 1 if THREADS else workers
    with Pounce(setting, workers=workers) as server:
        at_rest = server.vitals().threads
        samples: list[Sample] = []
        tallies = []
        for number in range(rounds):
            tally = asyncio.run(_round(server, seconds, number))
            samples.append(sample(server))
            tallies.append(tally)
            report.say(f"{tally}; p95 {percentile(tally.times, 95) * 1e3:.1f} ms")
            report.say(f"then {samples[-1].vitals}, {samples[-1].tasks} tasks and connections, "
                       f"{samples[-1].objects} objects")  # fmt: skip
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
        report.check(last.vitals.fds <= first.vitals.fds, f"fds {first.vitals.fds} -> {last.vitals.fds}")
        # Helper threads are made when so many are needed at a time for the first time, which may be late.
        report.check(
            last.vitals.threads <= at_rest + pools * HELPERS,
            f"threads {at_rest} at rest, {first.vitals.threads} -> {last.vitals.threads}, "
            f"{pools * HELPERS} of them may be helpers",
        )
        report.check(last.tasks <= first.tasks, f"tasks and connections {first.tasks} -> {last.tasks}")
        report.check(
            last.objects <= first.objects * 1.02 + 1000, f"objects {first.objects} -> {last.objects}"
        )  # fmt: skip
        server.stop()
        log = server.log
        report.check("Traceback" not in log, f"tracebacks in the log: {log.count('Traceback')}")


async def _round(server: Pounce, seconds: float, number: int):
    return await Traffic(server.address, MIXED, CLIENTS, seed=number).run(seconds)
