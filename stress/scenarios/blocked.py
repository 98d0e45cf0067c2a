"""A worker of four is blocked by its application: how long do requests on new connections wait? And: how are busy
connections distributed over the workers?

    block    thousands of new connections, without and with a worker that is blocked for ten seconds. The bound on the
             longest wait applies to the median of all tries, as the load of other programs is not the same in every try
    stuck    --timeout-worker-stuck: a worker that is blocked for too long is given up and replaced
    uneven   eight busy connections over four workers; and a mixed load on eight, beside a server whose workers keep
             every connection that they accept, as with SO_REUSEPORT alone

Only the two bounds on times depend on the machine. The server and the clients with new connections get a high priority
where that is allowed.
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
from stress.kit.child_process import ChildProcess
from stress.kit.clients import ANSWER_TIMEOUT, Connection
from stress.kit.machine import HIGH_PRIORITY, raise_priority
from stress.kit.pounce_server import Address, Pounce
from stress.kit.scenario import THREADS, Report, Setting, percentile

TOOLS = ()

WORKERS = 4
BOUND = 1.2  # seconds until a blocked worker is seen and another one has accepted its connections
CLIENTS = 64  # at most so many wait in the queue of a worker that is not yet known to be blocked
KEPT = 8  # connections that were open before
FULL, SHORT = (10_000, 10.0), (1_500, 2.0)  # requests, and seconds of the block
TRIES = 3  # where the median of fewer is above the bound
BLOCKS = 4  # of one server, one after the other
LOGGED = 1.0  # seconds until the block is in the log
STUCK = 1.5  # --timeout-worker-stuck
BACK = 60.0  # seconds until a worker that turns again has answered a new connection

BUSY = 8  # connections
SHORT_REQUEST = 0.01  # seconds
QUICK, SLOW, SLOW_EVERY = 0.0005, 0.02, 250  # seconds that a request blocks its worker; one of 250 is slow
TRIAL = 1.0  # seconds of a mixed load on the same connections

BLOCKED = re.compile(r"Worker (\d+) \(.*\) has been blocked for ([\d.]+) s by GET /block; worker \d+ accepts")
STACK = re.compile(r'by GET /block; worker \d+ accepts in its place\.\n  File ".*slowly\.py", line \d+ in block')


@contextlib.asynccontextmanager
async def connections(address: Address, count: int) -> AsyncIterator[list[Connection]]:
    """Opened one after the other, each when the first request of the one before has been answered."""
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
    """The worker's thread that has answered. Raises OSError, also for a wrong response."""
    async with asyncio.timeout(ANSWER_TIMEOUT):
        await connection.send(request(path, fields=fields))
        answer = await connection.answer()
    if answer.status != 200 or answer.content not in (b"ran", b"blocked"):
        raise OSError(f"wrong: {answer}")
    return answer.fields[b"x-thread"].decode()


# block


def fresh(address: Address, count: int, seconds: float) -> tuple[list[tuple[float, float]], list[str]]:
    """Sends `count` requests at an even pace over `seconds`, each on a new connection. Returns when each began and how
    long it took, and which were lost."""
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
    """What clients see while a worker is blocked."""

    began: float = 0.0
    ended: float = 0.0
    logged: float = float("inf")  # seconds until the block was logged
    line: str = ""  # of the log
    waited: int = 0  # kept connections of the blocked worker, answered afterwards
    others: int = 0  # kept connections of other workers, answered meanwhile
    wrong: list[str] = field(default_factory=list)
    back: float = float("inf")  # seconds until it has answered a new connection


async def block(server: Pounce, seconds: float) -> Block:
    """Blocks one worker, and sends requests on connections that all workers have had before."""
    seen, before = Block(), len(server.log)
    async with connections(server.address, KEPT) as kept:
        workers = [await ask(each) for each in kept]
        blocker, seen.began = kept[0], time.monotonic()

        async def other(connection: Connection, worker: str) -> None:
            await asyncio.sleep(seconds / 5)
            await ask(connection)
            if worker == workers[0]:
                seen.waited += 1
            elif blocked.done():
                seen.wrong.append(f"a kept connection of {worker} had to wait for {workers[0]}")
            else:
                seen.others += 1

        async def read() -> None:
            while not blocked.done() and seen.logged > seconds:
                if found := BLOCKED.search(server.log, before):
                    seen.logged, seen.line = time.monotonic() - seen.began, found[0]
                await asyncio.sleep(0.02)

        blocked = asyncio.create_task(ask(blocker, f"/block?{seconds}"))
        await asyncio.gather(
            blocked, read(), *(other(each, worker) for each, worker in zip(kept[1:], workers[1:], strict=True))
        )
        seen.ended = time.monotonic()
    while time.monotonic() < seen.ended + BACK and seen.back > BACK:
        async with connections(server.address, 1) as (connection,):
            if await ask(connection) == workers[0]:
                seen.back = time.monotonic() - seen.ended
    return seen


def blocks(setting: Setting, report: Report, seconds: float) -> None:
    count, length = FULL if setting.minutes >= 0.5 else SHORT
    end, tries = time.monotonic() + seconds, 0
    longest: list[float] = []
    logged: list[float] = []
    while not tries or time.monotonic() < end or (tries < TRIES and exceeded(longest, logged)):
        with Pounce(setting, "slowly:app", workers=WORKERS) as server:
            raise_priority(server.pid)
            for repeated in range(BLOCKS):
                if repeated and time.monotonic() >= end:
                    break
                tries += 1
                waited, seen = try_block(server, report, tries, count, length)
                longest.append(waited)
                if not repeated:  # a server warns once of a line that blocks
                    logged.append(seen.logged)
                    report.check(
                        bool(seen.line), f"block {tries}: logged after {seen.logged:.2f} s: {seen.line or None}"
                    )
            stacks = len(STACK.findall(server.log))
            report.check(stacks >= 1, f"block {tries}: stacks in the log: {stacks}")
            server.stop()
    middle = statistics.median(longest), statistics.median(logged)
    report.check(middle[0] <= BOUND, f"block: the longest wait, median of {tries}: {middle[0]:.3f} s")
    report.check(middle[1] <= LOGGED, f"block: logged, median of {len(logged)}: after {middle[1]:.2f} s")


def try_block(server: Pounce, report: Report, number: int, count: int, length: float) -> tuple[float, Block]:
    """New connections without and with a blocked worker. Returns the longest wait of the latter, in seconds."""
    with ChildProcess(fresh, server.address, count, length, nice=HIGH_PRIORITY) as clients:
        without, lost = clients.result(length + 2 * ANSWER_TIMEOUT)
    with ChildProcess(fresh, server.address, count, length + 1.0, nice=HIGH_PRIORITY) as clients:
        time.sleep(0.5)
        seen = asyncio.run(block(server, length))
        times, lost_then = clients.result(length + 2 * ANSWER_TIMEOUT)
    lost += lost_then
    longest = max(took for _, took in times)
    meanwhile = sum(seen.began <= began < seen.ended for began, _ in times)
    waited = sum(took > BOUND / 4 for _, took in times)
    report.log(
        f"block {number}: the longest of {len(without)} took {max(took for _, took in without):.3f} s without, "
        f"of {len(times)} {longest:.3f} s with a worker blocked for {seen.ended - seen.began:.1f} s: "
        f"{meanwhile} began meanwhile, {waited} took longer than {BOUND / 4:g} s"
    )
    report.check(len(without) == len(times) == count and not lost, f"block {number}: lost {lost[:3] or 0}")
    report.check(
        not seen.wrong and seen.others + seen.waited == KEPT - 1,
        f"block {number}: of the connections from before, {seen.others} were answered at once, {seen.waited} of "
        f"the blocked worker afterwards {seen.wrong[:3] or ''}",
    )
    report.check(seen.back <= BACK, f"block {number}: the worker answers again after {seen.back:.2f} s")
    return longest, seen


def exceeded(longest: list[float], logged: list[float]) -> bool:
    return statistics.median(longest) > BOUND or statistics.median(logged) > LOGGED


# stuck


def stuck(setting: Setting, report: Report) -> None:
    with Pounce(setting, "slowly:app", f"--timeout-worker-stuck={STUCK}", workers=WORKERS) as server:
        serving, outcome = asyncio.run(replace_stuck(server))
        report.check(serving == WORKERS, f"stuck: {serving} workers serve when one has been given up")
        # A process is killed. A thread cannot be ended from outside; its response is sent when it turns again.
        report.check(outcome == ("answered" if THREADS else "lost"), f"stuck: the request that blocked it is {outcome}")
        lines = re.findall(r" is given up, blocked for [\d.]+ s|Starting worker \d+ again|Traceback", server.log)
        report.check(len(lines) == 2, f"stuck: in the log: {lines}")
        server.stop()


async def replace_stuck(server: Pounce) -> tuple[int, str]:
    """Blocks a worker until it has been given up and replaced. Returns how many others serve then, and the outcome of
    the request that blocked it."""
    async with connections(server.address, 1) as (blocker,):
        worker, began = await ask(blocker), time.monotonic()
        waiting = asyncio.create_task(ask(blocker, f"/block?{2 * STUCK}"))
        found: set[str] = set()
        while len(found) < WORKERS and time.monotonic() < began + BACK:
            if " is given up, blocked for " not in server.log:
                await asyncio.sleep(SHORT_REQUEST)
                continue
            async with connections(server.address, 1) as (connection,):
                found |= {await ask(connection)} - {worker}
        try:
            return len(found), "answered" if await waiting == worker else "wrong"
        except OSError:
            return len(found), "lost"


# uneven


async def opened(address: Address, all_at_once: bool) -> tuple[int, ...]:
    """Eight connections, busy as soon as they are open. Returns the number of each worker's, in falling order."""
    stop, shares = asyncio.Event(), Counter[str]()

    async def busy(first: asyncio.Event) -> None:
        connection = await Connection.open(address)
        with contextlib.closing(connection):
            shares[await ask(connection)] += 1
            first.set()
            while not stop.is_set():
                await ask(connection, f"/run?{SHORT_REQUEST}")

    tasks = []
    for _ in range(BUSY):
        first = asyncio.Event()
        tasks.append(asyncio.create_task(busy(first)))
        if not all_at_once:
            await first.wait()
    while shares.total() < BUSY:
        await asyncio.sleep(SHORT_REQUEST)
    stop.set()
    await asyncio.gather(*tasks)
    return tuple(sorted([*shares.values(), *[0] * (WORKERS - len(shares))], reverse=True))


async def mixed(address: Address, times: list[float]) -> None:
    """Eight clients that send without pause, mostly requests that are quick and sometimes one that is slow, on
    connections that are opened at once."""
    end = time.monotonic() + TRIAL

    async def client(number: int) -> None:
        connection = await Connection.open(address)
        with contextlib.closing(connection):
            while (began := time.monotonic()) < end:
                number += 1
                await ask(connection, f"/block?{QUICK if number % SLOW_EVERY else SLOW}")
                times.append(time.monotonic() - began)

    await asyncio.gather(*(client(number * SLOW_EVERY // BUSY) for number in range(BUSY)))


class Alone(Pounce):
    """A server whose workers keep every connection that they accept."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.command[self.command.index("pounce")] = "slowly"


def uneven(setting: Setting, report: Report, seconds: float) -> None:
    end = time.monotonic() + seconds
    with (
        Pounce(setting, "slowly:app", workers=WORKERS) as shares,
        Alone(setting, "slowly:app", workers=WORKERS) as alone,
    ):
        servers = {"balanced": shares, "SO_REUSEPORT alone": alone}
        spread: dict[str, Counter[tuple[int, ...]]] = {name: Counter() for name in servers}
        times: dict[str, list[float]] = {name: [] for name in servers}
        while not times["SO_REUSEPORT alone"] or time.monotonic() < end:
            for name, server in servers.items():
                for at_once in (False, True):
                    server.wait_idle()
                    spread[name][asyncio.run(opened(server.address, at_once))] += 1
                asyncio.run(mixed(server.address, times[name]))
        for name, seen in spread.items():
            idle = sum(count for each, count in seen.items() if each[0] >= 3 and not each[-1])
            text = ", ".join(f"{'-'.join(map(str, each))}: {count}" for each, count in seen.most_common())
            text = f"uneven: {name}, one idle while another has three of {BUSY}: {idle} of {seen.total()} times: {text}"
            if name == "balanced":
                report.check(not idle, text)
            else:
                report.log(text)
        for name, took in times.items():
            p50, p99 = (percentile(took, percent) * 1e3 for percent in (50, 99))
            delayed = sum(each >= SLOW / 2 for each in took) / len(took)
            report.log(f"uneven: {name}, {len(took)} requests of a mixed load: p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
                       f"{delayed:.1%} took longer than {SLOW / 2 * 1e3:g} ms, {1 / SLOW_EVERY:.1%} are")  # fmt: skip
        shares.stop()
        alone.stop()


def run(setting: Setting, report: Report) -> None:
    blocks(setting, report, setting.seconds * 0.7)
    stuck(setting, report)
    uneven(setting, report, setting.seconds * 0.2)
