"""More clients than a server lets in, and requests that take longer than it allows.

    step       one worker, every place taken: who finds the queue full is told so at once, who waits too long then
    flood      more clients than places and queues, some of whom leave: each is answered, or told when to come again
    deadline   --timeout-request: who gets 504, who is cut, what the log says, and what goes on
    storm      10,000 connections opened at once, and dropped at once: by reset, by close, in the middle of a head

A busy machine can make a 503 late and a wait long, but neither of them early, nor lose a request or a descriptor.
"""

import asyncio
import contextlib
import multiprocessing
import re
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from threading import BrokenBarrierError
from typing import Any

from pounce.kernel.loop import LONG_TURN
from stress.kit.actions import request
from stress.kit.child_process import Apart
from stress.kit.clients import ANSWER, RESET, Answer, Client, Connection, Tally
from stress.kit.machine import raise_descriptor_limit
from stress.kit.pounce_server import Address, Pounce, get
from stress.kit.scenario import Report, Setting

TOOLS = ()

LIMIT, QUEUE, PATIENCE = 16, 32, 1.0  # --limit-concurrency, --limit-queue, --queue-timeout; the first two of a worker
LIMITS = (f"--limit-concurrency={LIMIT}", f"--limit-queue={QUEUE}", f"--queue-timeout={PATIENCE}",
          "--timeout-keep-alive=600")  # fmt: skip
EARLY = LONG_TURN + 0.01  # seconds: as exact as the loop wants its deadlines to be
LATE = 5.0  # seconds that a wait may be longer on a machine with other things to do
EXTRA = 10  # more than there are places and queue
HOLD = 2.5 * PATIENCE  # seconds that places are held
CROWD = 2  # clients for each place, be it to run or to wait
FAST, SLOW = 0.05, 1.6  # seconds a request takes; while it is slow the queue's time runs out
CYCLE, SLOWLY = 5.0, (1.0, 1.4)  # seconds; when in each cycle
LEAVING = 0.03  # of the requests, their clients leave before long

DEADLINE = 1.0  # --timeout-request
WAYS = {  # of the application to be too late -> what its client must see; None: the response is cut
    "never": 504, "receives": 504, "stubborn": 504, "started": None, "chunked": None, "counted": None,
}  # fmt: skip
EACH = 20  # requests of each, at a time
STEADY = 8  # clients that ask for what is in time

CONNECTIONS, SPARE = 10_000, 600  # descriptors for everything else
HELPERS = 2
SOURCES = 5  # addresses to come from, each with its own ports
OPENING = 30.0  # seconds for all to be open
SETTLE = 90.0  # seconds: a closed connection may have to say so several times, each time twice as late
WORDS = (b"", b"GET /number?1 HTTP/1.1\r\nHost: str", request("/run?0.05"))  # what comes before the drop


@dataclass
class Crowd:
    """What clients have seen."""

    tally: Tally = field(default_factory=Tally)
    waits: list[float] = field(default_factory=list)  # until the application began, of those answered
    refusals: list[float] = field(default_factory=list)  # seconds each 503 took
    most: int = 0  # running on one worker at a time

    async def ask(self, client: Client, path: str, leaves: float | None = None) -> Answer | None:
        """A request, accounted for. Its client leaves after so many seconds; None when there was no answer."""
        tally, connection, answer = self.tally, await client.kept(), None
        sent = time.monotonic()
        with client.asking(path, 1, connection):
            try:
                async with asyncio.timeout(leaves or ANSWER):
                    await connection.send(request(path))
                    answer = await connection.answer()
            except TimeoutError:
                if leaves is None:
                    raise
                tally.abandoned += 1
        took = time.monotonic() - sent
        if answer is None:
            connection.close(reset=client.random.random() < 0.5)
            client.connection = None
            return None
        if answer.status == 200 and answer.content == b"ran":
            tally.answered += 1
            self.waits.append(float(answer.fields[b"x-began"]) - sent)
            self.most = max(self.most, int(answer.fields[b"x-running"]))
        elif answer.status == 503 and pause(answer) and answer.closes:
            tally.refused += 1
            self.refusals.append(took)
        else:
            tally.wrong.append(f"{path}: {answer}")
        if answer.closes:
            client.close()
        return answer

    def judge(self, report: Report, name: str) -> None:
        lost = [str(cut) for cut in self.tally.cuts] + self.tally.wrong
        report.check(self.tally.balances and not lost, f"{name}: {self.tally} {lost[:3] or ''}")


def pause(answer: Answer) -> int:
    """When to come again, in seconds; 0 when that is not said."""
    value = answer.fields.get(b"retry-after", b"")
    return int(value) if value.isdigit() else 0


async def together(address: Address, path: str, count: int) -> Crowd:
    """So many clients at once, each on a connection of its own."""
    crowd = Crowd()
    clients = [Client(address, crowd.tally, number) for number in range(count)]
    for client in clients:
        await client.kept()
    await asyncio.gather(*(crowd.ask(client, path) for client in clients))
    for client in clients:
        client.close()
    return crowd


async def all_served(address: Address) -> int:
    """How many are, of those who all have a place."""
    return (await together(address, f"/run?{FAST}", LIMIT)).tally.answered


def left(server: Pounce, before: int) -> tuple[bool, str]:
    """Is nothing left of those clients, where there were so many descriptors before them? And what there is."""
    census, until = server.quiet(), time.monotonic() + SETTLE
    while (after := server.vitals()).fds > before and time.monotonic() < until:
        time.sleep(0.2)
    own, bad = len(server.worker_pids()), server.log.count("Traceback")  # the census comes on a connection of its own
    connections, exchanges = census["HTTP1Connection"] - own, census["Exchange"] - own
    text = f"{connections} connections and {exchanges} exchanges left, {after}, {bad} tracebacks"
    return max(connections, exchanges, bad) <= 0 and after.fds <= before, text


def all_gone(report: Report, name: str, server: Pounce, before: int) -> None:
    passed, text = left(server, before)
    report.check(passed, f"{name}: {text}")


# step


async def stand_still(address: Address) -> tuple[Crowd, int, int]:
    """All places are held; as many as may wait come, and some more. Then as many as may run. How many of the first and
    of the last were answered."""
    holders = [await Connection.open(address) for _ in range(LIMIT)]
    for holder in holders:
        await holder.send(request(f"/hold?{HOLD}"))
        await holder.more()
    crowd = await together(address, "/run?0", QUEUE + EXTRA)
    held = 0
    for holder in holders:
        held += (await holder.answer()).content == b"holds, held"
        holder.close()
    return crowd, held, await all_served(address)


def step(setting: Setting, report: Report, seconds: float) -> None:
    told: list[int] = []
    end = time.monotonic() + seconds
    with Pounce(setting, "slowly:app", *LIMITS) as server:
        server.quiet()
        before = server.vitals().fds
        while not told or time.monotonic() < end:
            crowd, held, then = asyncio.run(stand_still(server.address))
            crowd.judge(report, "step")
            soon = [took for took in crowd.refusals if took < PATIENCE - EARLY]
            later = sorted(crowd.refusals)[len(soon) :]
            told.append(len(soon))
            report.check(
                held == then == LIMIT and len(soon) <= EXTRA,
                f"step: {held} run, {len(soon)} told at once, {len(later)} after {min(later, default=0):.3f} to "
                f"{max(later, default=0):.3f} s, {crowd.tally.answered} let in; then {then} of {LIMIT} answered",
            )
        # A machine that stands still for a second makes what is told at once late.
        usual = sorted(told)[len(told) // 2]
        report.check(usual == EXTRA, f"step: {usual} of {QUEUE + EXTRA} found the queue of {QUEUE} full, as a rule")
        all_gone(report, "step", server, before)
        server.stop()


# flood


async def besiege(address: Address, count: int, seconds: float) -> Crowd:
    crowd, began = Crowd(), time.monotonic()

    async def guest(number: int) -> None:
        client = Client(address, crowd.tally, number)
        while (passed := time.monotonic() - began) < seconds:
            takes = SLOW if SLOWLY[0] <= passed % CYCLE < SLOWLY[1] else FAST
            leaves = 0.01 + client.random.random() / 2 if client.random.random() < LEAVING else None
            answer = await crowd.ask(client, f"/run?{takes}", leaves)
            if answer is not None and answer.status == 503:
                await asyncio.sleep(pause(answer))
        client.close()

    await asyncio.gather(*(guest(number) for number in range(count)))
    return crowd


TOLD = re.compile(r"(\d+) were admitted, (\d+) refused; the longest wait was")


def flood(setting: Setting, report: Report, seconds: float) -> None:
    workers = setting.workers or 2
    count = CROWD * (LIMIT + QUEUE) * workers
    with Pounce(setting, "slowly:app", *LIMITS, workers=workers) as server:
        server.quiet()
        before = server.vitals().fds
        crowd = asyncio.run(besiege(server.address, count, max(seconds, SLOWLY[1] + SLOW)))
        tally = crowd.tally
        crowd.judge(report, f"flood: {count} clients, {workers} workers")
        all_gone(report, "flood", server, before)
        told = TOLD.findall(server.log)
        admitted, away = (sum(int(line[place]) for line in told) for place in (0, 1))
        report.check(
            tally.refused <= away <= tally.refused + tally.abandoned and admitted <= tally.answered + tally.abandoned,
            f"flood: the server counted the same: {admitted} let in after a wait, {away} turned away",
        )
        report.check(0 < tally.refused < tally.answered, f"flood: {tally.refused} had to come again, which is not most")
        timed_out, waited = sum(took >= PATIENCE for took in crowd.refusals), max(crowd.waits, default=0.0)
        report.check(waited <= PATIENCE + LATE, f"flood: who was answered waited {waited:.2f} s at the most; "
                                                f"{timed_out} were told after {PATIENCE:g} s")  # fmt: skip
        report.check(crowd.most == LIMIT, f"flood: {crowd.most} ran at a time on a worker, at the most")
        then = asyncio.run(all_served(server.address))
        report.check(then == LIMIT, f"flood: then {then} of {LIMIT} were answered")
        server.stop()


# deadline


@dataclass
class Deadlines:
    address: Address
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """What the log has to name."""
    first: float = ANSWER  # seconds after which the first was ended

    async def too_late(self, way: str, path: str) -> None:
        connection, sent = await Connection.open(self.address), time.monotonic()
        self.late.append(path)
        try:
            async with asyncio.timeout(ANSWER):
                await connection.send(request(path))
                status = (await connection.answer()).status if WAYS[way] else await self._part(connection)
                took = time.monotonic() - sent
                self.first = min(self.first, took)
                self.seen[f"{way} {status or 'cut'}"] += 1
                if status != WAYS[way] or took < DEADLINE - EARLY:
                    self.wrong.append(f"{path}: {status} after {took:.3f} s")
                elif status:
                    await connection.send(request("/run?0"))
                    if (await connection.answer()).status != 200:
                        self.wrong.append(f"{path}: its connection does not go on")
        except OSError as error:
            self.wrong.append(f"{path}: {type(error).__name__}: {error}")
        finally:
            connection.close()

    async def _part(self, connection: Connection) -> int | None:
        """None when a response has begun, and ended before its end."""
        try:
            while True:
                await connection.more()
        except ConnectionError:
            got = bytes(connection.buffer)
        whole = got.endswith(b"0\r\n\r\n") or not got.startswith(b"HTTP/1.1 200")
        return int(got.split(b" ")[1]) if whole else None

    async def in_time(self, way: str, until: float) -> None:
        """On one connection, one after the other. Where the machine makes it late, 504 is right."""
        connection = await Connection.open(self.address)
        while (sent := time.monotonic()) < until:
            await connection.send(request(way))
            answer = await connection.answer()
            took = time.monotonic() - sent
            self.seen[f"in time {answer.status}"] += 1
            if answer.status == 504:
                self.late.append(way.partition("?")[0])
            if not (answer.content == b"ran" or (answer.status == 504 and took >= DEADLINE - EARLY)):
                self.wrong.append(f"{way}: {answer.status} after {took:.3f} s")
            await asyncio.sleep(0.02)
        connection.close()

    async def round(self, number: int) -> None:
        until, ways = time.monotonic() + 1.5 * DEADLINE, ("/run?0.05", f"/after?{2 * DEADLINE}")
        await asyncio.gather(
            *(self.in_time(ways[each % 2], until) for each in range(STEADY)),
            *(self.too_late(way, f"/{way}/{number}-{each}") for way in WAYS for each in range(EACH)),
        )


def deadline(setting: Setting, report: Report, seconds: float) -> None:
    end, rounds = time.monotonic() + seconds, 0
    with Pounce(setting, "slowly:app", f"--timeout-request={DEADLINE}", workers=setting.workers or 2) as server:
        server.quiet()
        before, seen = server.vitals().fds, Deadlines(server.address)
        while not rounds or time.monotonic() < end:
            rounds += 1
            asyncio.run(seen.round(rounds))
        report.say(f"deadline: {', '.join(f'{what}: {count}' for what, count in sorted(seen.seen.items()))}")
        report.check(not seen.wrong, f"deadline: {len(seen.late)} ended, the first after {seen.first:.2f} s; "
                                     f"wrong: {seen.wrong[:3] or 0}")  # fmt: skip
        report.check(seen.seen["in time 200"] > seen.seen["in time 504"], "deadline: who is in time is answered")
        all_gone(report, "deadline", server, before)
        named = Counter(re.findall(r"Request timed out: GET (/\S+) in \w+ \(\S+slowly\.py:\d+\)", server.log))
        missed = Counter(seen.late) - named, named - Counter(seen.late)
        report.check(not any(missed), f"deadline: the log names {named.total()} and where they were; missed "
                                      f"{list(missed[0])[:3] or 0}, too many {list(missed[1])[:3] or 0}")  # fmt: skip
        stubborn = len(set(re.findall(r"GET (/stubborn/\S+) in \w+ \(\S+\) ignores its cancellation", server.log)))
        report.check(stubborn == rounds * EACH, f"deadline: {stubborn} named that ignore their cancellation")
        server.stop()


# storm


def pour(address: Address, count: int, waiting: bool, gate: Any) -> tuple[int, int]:
    """Opens so many connections at once and drops them at once, as soon as the gate opens; without `waiting`, those too
    that are not open yet. How many were open, and how many had said something."""
    sockets, poll = {}, select.poll()
    gate.wait(OPENING)
    for number in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((f"127.0.2.{number % SOURCES + 1}", 0))
        sock.connect_ex(address)
        sockets[sock.fileno()] = sock, WORDS[number // 2 % len(WORDS)]
        poll.register(sock, select.POLLOUT)
    opened = spoken = 0
    until = time.monotonic() + OPENING
    while opened < count:
        for fd, _ in poll.poll(200 if waiting else 0):
            poll.unregister(fd)
            sock, word = sockets[fd]
            sock.send(word)  # raises what has become of the connection
            opened += 1
            spoken += bool(word)
        if not waiting or time.monotonic() > until:
            break
    if waiting:
        for _ in "held", "dropped":
            gate.wait(2 * OPENING + ANSWER)
    for number, (sock, _) in enumerate(sockets.values()):
        if number % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    return opened, spoken


def timed_get(address: Address) -> float:
    began = time.monotonic()
    get(address, "/", ANSWER)
    return time.monotonic() - began


def storm(setting: Setting, report: Report, seconds: float) -> None:
    most = raise_descriptor_limit() - SPARE  # for a server that is one process, and less than that for each helper
    count = min(CONNECTIONS if setting.minutes >= 0.3 else CONNECTIONS // 10, most)
    end, number = time.monotonic() + seconds, 0
    with Pounce(setting, "slowly:app", workers=setting.workers or 2) as server:
        server.quiet()
        before = server.vitals()
        while number < 2 or time.monotonic() < end:
            waiting = number % 2 == 0
            number += 1
            gate = multiprocessing.get_context("spawn").Barrier(HELPERS + 1)
            helpers = [Apart(pour, server.address, count // HELPERS, waiting, gate) for _ in range(HELPERS)]
            beside = ""
            with contextlib.suppress(BrokenBarrierError):  # the helpers say why
                gate.wait(OPENING)
                if waiting:
                    gate.wait(2 * OPENING + ANSWER)
                    took = timed_get(server.address)
                    beside = f", an answer beside them in {took:.2f} s, with {server.vitals()}"
                    gate.wait(ANSWER)
            opened, spoken = map(sum, zip(*(helper.result(SETTLE) for helper in helpers), strict=True))
            after = timed_get(server.address)
            passed, text = left(server, before.fds)
            report.check(
                passed and (not waiting or opened == count),
                f"storm {number}: {count} at once, {opened} open when dropped, {spoken} had said something{beside}; "
                f"then an answer in {after:.2f} s; {text}",
            )
        report.say(f"storm: {before} before the first; descriptors allow {most}")
        server.stop()


def run(setting: Setting, report: Report) -> None:
    step(setting, report, setting.seconds * 0.1)
    flood(setting, report, setting.seconds * 0.4)
    deadline(setting, report, setting.seconds * 0.2)
    storm(setting, report, setting.seconds * 0.3)
