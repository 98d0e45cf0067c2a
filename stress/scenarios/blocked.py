"""One worker of four is blocked by its application: who waits for it? And many busy connections: who has them?

    block    fresh connections by the thousand, without and with a worker that is blocked for ten seconds. The bound on
             the longest wait holds for the median of all tries: what a neighbour on the machine did does not happen in
             every try
    lost     --timeout-worker-stuck: another takes the place of a worker that is blocked for too long
    uneven   eight busy connections over four workers; and a mixed load on eight, beside a server whose workers keep
             what the kernel gives them, as with SO_REUSEPORT alone

Only the two bounds on times depend on the machine. The server and the clients on new connections run before everything
else on it, where that is allowed.
"""

import asyncio
import contextlib
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from stress.kit.actions import request
from stress.kit.child_process import Apart
from stress.kit.clients import ANSWER, Connection
from stress.kit.machine import FIRST
from stress.kit.pounce_server import Address, Pounce
from stress.kit.scenario import THREADS, Report, Setting, percentile

TOOLS = ()

WORKERS = 4
BOUND = 1.2  # seconds: until a blocked worker is noticed, and a sibling has taken what lay before it
CLIENTS = 64  # so many may stand in the queue of a worker that nobody has noticed to be blocked
KEPT = 8  # connections that have been there before
FULL, SHORT = (10_000, 10.0), (1_500, 2.0)  # requests, and seconds of the block
TRIES = 3  # where the median of less is over the bound
NOTICED = 1.0  # seconds until the log says so
STUCK = 1.5  # --timeout-worker-stuck
PATIENCE = 60.0  # seconds until a worker that turns again has been seen at work

BUSY = 8  # connections
LITTLE = 0.01  # seconds a request of theirs takes
QUICK, SLOW, SLOWLY = 0.0005, 0.02, 250  # seconds a request blocks its worker; one of so many is a slow one
TRIAL = 1.0  # seconds of a mixed load on the same connections

BLOCKED = re.compile(r"Worker (\d+) \(.*\) has been blocked for ([\d.]+) s by GET /block; worker \d+ accepts")
STACK = re.compile(r'by GET /block; worker \d+ accepts in its place\.\n  File ".*slowly\.py", line \d+ in block')


@contextlib.asynccontextmanager
async def connections(address: Address, count: int) -> AsyncIterator[list[Connection]]:
    """One after the other, each with the next only when its first request has been answered."""
    opened: list[Connection] = []
    try:
        for _ in range(count):
            opened.append(await Connection.open(address))
            await ask(opened[-1])
        yield opened
    finally:
        for each in opened:
            each.close()


async def ask(connection: Connection, path: str = "/run?0", fields: str = "") -> str:
    """Who has answered. Raises OSError, also for an answer that is wrong."""
    async with asyncio.timeout(ANSWER):
        await connection.send(request(path, fields=fields))
        answer = await connection.answer()
    if answer.status != 200 or answer.content not in (b"ran", b"blocked"):
        raise OSError(f"wrong: {answer}")
    return answer.fields[b"x-who"].decode()


# block


def fresh(address: Address, count: int, seconds: float) -> tuple[list[tuple[float, float]], list[str]]:
    """So many requests, each on a connection of its own, at an even pace so that they take at least so long. When each
    began and how long it took; and what was lost."""
    return asyncio.run(_fresh(address, count, seconds))


async def _fresh(address: Address, count: int, seconds: float) -> tuple[list[tuple[float, float]], list[str]]:
    times: list[tuple[float, float]] = []
    lost: list[str] = []
    numbers, start = iter(range(count)), time.monotonic()

    async def client() -> None:
        for number in numbers:
            await asyncio.sleep(start + number * seconds / count - time.monotonic())
            began = time.monotonic()
            try:
                connection = await Connection.open(address)
                with contextlib.closing(connection):
                    await ask(connection, fields="Connection: close\r\n")
            except (OSError, ValueError, KeyError) as error:
                lost.append(f"{number}: {type(error).__name__}: {error}")
            times.append((began, time.monotonic() - began))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return times, lost


@dataclass
class Block:
    """What is seen from outside while a worker is blocked."""

    began: float = 0.0
    ended: float = 0.0
    noticed: float = float("inf")  # seconds until the log said so
    said: str = ""
    waited: int = 0  # kept connections of the blocked worker, answered afterwards
    others: int = 0  # of the other workers, answered meanwhile
    wrong: list[str] = field(default_factory=list)
    back: float = float("inf")  # seconds until it had answered somebody new


async def block(server: Pounce, seconds: float) -> Block:
    """Blocks one worker, and asks all of them on connections that they had before."""
    seen, before = Block(), len(server.log)
    async with connections(server.address, KEPT) as kept:
        places = [await ask(each) for each in kept]
        blocker, seen.began = kept[0], time.monotonic()

        async def other(connection: Connection, place: str) -> None:
            await asyncio.sleep(seconds / 5)
            await ask(connection)
            if place == places[0]:
                seen.waited += 1
            elif over.done():
                seen.wrong.append(f"a kept connection of {place} had to wait for {places[0]}")
            else:
                seen.others += 1

        async def read() -> None:
            while not over.done() and seen.noticed > seconds:
                if found := BLOCKED.search(server.log, before):
                    seen.noticed, seen.said = time.monotonic() - seen.began, found[0]
                await asyncio.sleep(0.02)

        over = asyncio.create_task(ask(blocker, f"/block?{seconds}"))
        await asyncio.gather(
            over, read(), *(other(each, place) for each, place in zip(kept[1:], places[1:], strict=True))
        )
        seen.ended = time.monotonic()
    while time.monotonic() < seen.ended + PATIENCE and seen.back > PATIENCE:
        async with connections(server.address, 1) as (someone,):
            if await ask(someone) == places[0]:
                seen.back = time.monotonic() - seen.ended
    return seen


def blocks(setting: Setting, report: Report, seconds: float) -> None:
    count, length = FULL if setting.minutes >= 0.5 else SHORT
    end, tries = time.monotonic() + seconds, 0
    longest: list[float] = []
    noticed: list[float] = []
    with Pounce(setting, "slowly:app", workers=WORKERS) as server:
        server.go_first()
        while not tries or time.monotonic() < end or (tries < TRIES and exceeded(longest, noticed)):
            tries += 1
            with Apart(fresh, server.address, count, length, nice=FIRST) as clients:
                without, lost = clients.result(length + 2 * ANSWER)
            with Apart(fresh, server.address, count, length + 1.0, nice=FIRST) as clients:
                time.sleep(0.5)
                seen = asyncio.run(block(server, length))
                times, lost_then = clients.result(length + 2 * ANSWER)
            longest.append(max(took for _, took in times))
            noticed.append(seen.noticed)
            meanwhile = sum(seen.began <= began < seen.ended for began, _ in times)
            waited = sum(took > BOUND / 4 for _, took in times)
            report.say(
                f"block {tries}: the longest of {len(without)} took {max(took for _, took in without):.3f} s without, "
                f"of {len(times)} {longest[-1]:.3f} s with a worker blocked for {seen.ended - seen.began:.1f} s: "
                f"{meanwhile} began meanwhile, {waited} took longer than {BOUND / 4:g} s"
            )
            lost += lost_then
            report.check(len(without) == len(times) == count and not lost, f"block {tries}: lost {lost[:3] or 0}")
            report.check(
                not seen.wrong and seen.others + seen.waited == KEPT - 1,
                f"block {tries}: of the connections from before, {seen.others} were answered at once, {seen.waited} of "
                f"the blocked worker afterwards {seen.wrong[:3] or ''}",
            )
            report.check(
                bool(seen.said), f"block {tries}: the log said after {seen.noticed:.2f} s: {seen.said or None}"
            )
            report.check(seen.back <= PATIENCE, f"block {tries}: the worker is back at work after {seen.back:.2f} s")
        middle = statistics.median(longest), statistics.median(noticed)
        report.check(middle[0] <= BOUND, f"block: the longest wait, median of {tries}: {middle[0]:.3f} s")
        report.check(middle[1] <= NOTICED, f"block: in the log, median of {tries}: after {middle[1]:.2f} s")
        places, stacks = {found[0] for found in BLOCKED.findall(server.log)}, len(STACK.findall(server.log))
        report.check(stacks >= len(places), f"block: {len(places)} were blocked in turn; their stacks: {stacks}")
        server.stop()


def exceeded(longest: list[float], noticed: list[float]) -> bool:
    return statistics.median(longest) > BOUND or statistics.median(noticed) > NOTICED


# lost


def lost(setting: Setting, report: Report) -> None:
    with Pounce(setting, "slowly:app", f"--timeout-worker-stuck={STUCK}", workers=WORKERS) as server:
        instead, told = asyncio.run(outlast(server))
        report.check(instead == WORKERS, f"lost: {instead} workers serve when one has been given up")
        # A thread cannot be ended from outside, and is listened to if it comes back; a process is killed.
        report.check(told == ("answered" if THREADS else "cut"), f"lost: the request that has blocked it is {told}")
        said = re.findall(r" is lost, blocked for [\d.]+ s|Starting worker \d+ again|Traceback", server.log)
        report.check(len(said) == 2, f"lost: in the log: {said}")
        server.stop()


async def outlast(server: Pounce) -> tuple[int, str]:
    """Blocks a worker until it has been given up and replaced. How many others serve then, and what becomes of its
    request."""
    async with connections(server.address, 1) as (blocker,):
        its, begun = await ask(blocker), time.monotonic()
        waiting = asyncio.create_task(ask(blocker, f"/block?{2 * STUCK}"))
        found: set[str] = set()
        while len(found) < WORKERS and time.monotonic() < begun + PATIENCE:
            if " is lost, blocked for " not in server.log:
                await asyncio.sleep(LITTLE)
                continue
            async with connections(server.address, 1) as (someone,):
                found |= {await ask(someone)} - {its}
        try:
            return len(found), "answered" if await waiting == its else "wrong"
        except OSError:
            return len(found), "cut"


# uneven


async def opened(address: Address, all_at_once: bool) -> tuple[int, ...]:
    """Eight connections, busy from the moment they are open. How many each of the workers has got, most first."""
    enough, shares = asyncio.Event(), Counter[str]()

    async def busy(first: asyncio.Event) -> None:
        connection = await Connection.open(address)
        with contextlib.closing(connection):
            shares[await ask(connection)] += 1
            first.set()
            while not enough.is_set():
                await ask(connection, f"/run?{LITTLE}")

    tasks = []
    for _ in range(BUSY):
        first = asyncio.Event()
        tasks.append(asyncio.create_task(busy(first)))
        if not all_at_once:
            await first.wait()
    while shares.total() < BUSY:
        await asyncio.sleep(LITTLE)
    enough.set()
    await asyncio.gather(*tasks)
    return tuple(sorted([*shares.values(), *[0] * (WORKERS - len(shares))], reverse=True))


async def mixed(address: Address, times: list[float]) -> None:
    """Eight clients that ask without pause for what takes little, and now and then for what takes long; opened all at
    once, and again from time to time."""
    end = time.monotonic() + TRIAL

    async def client(number: int) -> None:
        connection = await Connection.open(address)
        with contextlib.closing(connection):
            while (began := time.monotonic()) < end:
                number += 1
                await ask(connection, f"/block?{QUICK if number % SLOWLY else SLOW}")
                times.append(time.monotonic() - began)

    await asyncio.gather(*(client(number * SLOWLY // BUSY) for number in range(BUSY)))


class Alone(Pounce):
    """Its workers keep what the kernel gives them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.command[self.command.index("pounce")] = "slowly"


def uneven(setting: Setting, report: Report, seconds: float) -> None:
    end = time.monotonic() + seconds
    with (
        Pounce(setting, "slowly:app", workers=WORKERS) as shares,
        Alone(setting, "slowly:app", workers=WORKERS) as alone,
    ):
        servers = {"with hand-over": shares, "SO_REUSEPORT alone": alone}
        spread: dict[str, Counter[tuple[int, ...]]] = {name: Counter() for name in servers}
        times: dict[str, list[float]] = {name: [] for name in servers}
        while not times["SO_REUSEPORT alone"] or time.monotonic() < end:
            for name, server in servers.items():
                for at_once in (False, True):
                    server.quiet()
                    spread[name][asyncio.run(opened(server.address, at_once))] += 1
                asyncio.run(mixed(server.address, times[name]))
        for name, seen in spread.items():
            idle = sum(count for each, count in seen.items() if each[0] >= 3 and not each[-1])
            text = ", ".join(f"{'-'.join(map(str, each))}: {count}" for each, count in seen.most_common())
            text = f"uneven: {name}, one idle while another has three of {BUSY}: {idle} of {seen.total()} times: {text}"
            if name == "with hand-over":
                report.check(not idle, text)
            else:
                report.say(text)
        for name, took in times.items():
            p50, p99 = (percentile(took, percent) * 1e3 for percent in (50, 99))
            behind = sum(each >= SLOW / 2 for each in took) / len(took)
            report.say(f"uneven: {name}, {len(took)} requests of a mixed load: p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
                       f"{behind:.1%} took longer than {SLOW / 2 * 1e3:g} ms, {1 / SLOWLY:.1%} had to")  # fmt: skip
        shares.stop()
        alone.stop()


def run(setting: Setting, report: Report) -> None:
    blocks(setting, report, setting.seconds * 0.7)
    lost(setting, report)
    uneven(setting, report, setting.seconds * 0.2)
