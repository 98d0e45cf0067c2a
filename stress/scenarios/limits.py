"""More clients than a server admits, and requests that take longer than it allows.

    step       one worker at its limit: a request that finds the queue full is refused at once, one in the queue when
               its time is over
    flood      more clients than may run and wait, some of which disconnect: each is answered or refused
    deadline   --timeout-request: 504 before the response has begun, a reset or an end after that; a line in the log
    storm      10,000 connections are opened at once and closed at once, by a reset or not, some within a head

On a busy machine a 503 may be late and a wait long, but neither is early, and no request or descriptor is lost.
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
from stress.kit.child_process import ChildProcess
from stress.kit.clients import ANSWER_TIMEOUT, RESET, Answer, Client, Connection, Tally
from stress.kit.machine import raise_descriptor_limit
from stress.kit.pounce_server import Address, Pounce, get
from stress.kit.scenario import Report, Setting

TOOLS = ()

LIMIT, QUEUE, QUEUE_TIMEOUT = 16, 32, 1.0  # --limit-concurrency and --limit-queue of a worker, --queue-timeout
LIMITS = (f"--limit-concurrency={LIMIT}", f"--limit-queue={QUEUE}", f"--queue-timeout={QUEUE_TIMEOUT}",
          "--timeout-keep-alive=600")  # fmt: skip
EARLY = LONG_TURN + 0.01  # seconds: the precision of the loop's deadlines
LATE = 5.0  # seconds that a wait may be longer on a busy machine
EXTRA = 10  # clients more than may run and wait
HOLD = 2.5 * QUEUE_TIMEOUT  # seconds that the running requests take
OVERLOAD = 2  # times as many clients as may run and wait
FAST, SLOW = 0.05, 1.6  # seconds that a request takes; a slow one takes longer than the queue's timeout
CYCLE, SLOW_PHASE = 5.0, (1.0, 1.4)  # seconds; requests are slow in this part of each cycle
DISCONNECTING = 0.03  # of the requests: their client disconnects within half a second

DEADLINE = 1.0  # --timeout-request
HANDLERS = {  # of the application that exceed the deadline -> status of the response; None: it is incomplete
    "never": 504, "receives": 504, "stubborn": 504, "started": None, "chunked": None, "counted": None,
}  # fmt: skip
EACH = 20  # requests to each at a time
STEADY = 8  # clients whose requests are in time

CONNECTIONS, SPARE = 10_000, 600  # descriptors for all but the connections
CHILDREN = 2
SOURCES = 5  # addresses of the clients, each with its own ports
OPENING = 30.0  # seconds until all are open
SETTLE = 90.0  # seconds: the kernel may repeat a FIN several times, each time after twice as long
BEGINNINGS = (b"", b"GET /number?1 HTTP/1.1\r\nHost: str", request("/run?0.05"))
"""What is sent before a connection is closed."""


@dataclass
class Observed:
    """What all clients have seen."""

    tally: Tally = field(default_factory=Tally)
    waits: list[float] = field(default_factory=list)  # seconds until the application began, of answered requests
    refusals: list[float] = field(default_factory=list)  # seconds until each 503
    max_running: int = 0  # on one worker at a time

    async def ask(self, client: Client, path: str, disconnect_after: float | None = None) -> Answer | None:
        """Sends a request and counts its outcome. None when its client has disconnected before the response."""
        tally, connection, answer = self.tally, await client.kept(), None
        sent = time.monotonic()
        with client.counting(path, 1, connection):
            try:
                async with asyncio.timeout(disconnect_after or ANSWER_TIMEOUT):
                    await connection.send(request(path))
                    answer = await connection.answer()
            except TimeoutError:
                if disconnect_after is None:
                    raise
                tally.disconnected += 1
        took = time.monotonic() - sent
        if answer is None:
            connection.close(reset=client.random.random() < 0.5)
            client.connection = None
            return None
        if answer.status == 200 and answer.content == b"ran":
            tally.answered += 1
            self.waits.append(float(answer.fields[b"x-began"]) - sent)
            self.max_running = max(self.max_running, int(answer.fields[b"x-running"]))
        elif answer.status == 503 and retry_after(answer) and answer.closes:
            tally.refused += 1
            self.refusals.append(took)
        else:
            tally.wrong.append(f"{path}: {answer}")
        if answer.closes:
            client.close()
        return answer

    def judge(self, report: Report, name: str) -> None:
        lost = [str(each) for each in self.tally.lost] + self.tally.wrong
        report.check(self.tally.balances and not lost, f"{name}: {self.tally} {lost[:3] or ''}")


def retry_after(answer: Answer) -> int:
    """Seconds of Retry-After; 0 without that field."""
    value = answer.fields.get(b"retry-after", b"")
    return int(value) if value.isdigit() else 0


async def together(address: Address, path: str, count: int) -> Observed:
    """`count` clients that send at once, each on its own connection."""
    observed = Observed()
    clients = [Client(address, observed.tally, number) for number in range(count)]
    for client in clients:
        await client.kept()
    await asyncio.gather(*(observed.ask(client, path) for client in clients))
    for client in clients:
        client.close()
    return observed


async def all_served(address: Address) -> int:
    """How many of as many requests as may run at once are answered."""
    return (await together(address, f"/run?{FAST}", LIMIT)).tally.answered


def left(server: Pounce, before: int) -> tuple[bool, str]:
    """Is nothing left of the clients? And a text with what is left. `before`: descriptors before the clients came."""
    counts, until = server.wait_idle(), time.monotonic() + SETTLE
    while (after := server.usage()).fds > before and time.monotonic() < until:
        time.sleep(0.2)
    own, bad = len(server.worker_pids()), server.log.count("Traceback")  # one exchange in each process is the counting
    connections, exchanges = counts["HTTP1Connection"] - own, counts["Exchange"] - own
    text = f"{connections} connections and {exchanges} exchanges left, {after}, {bad} tracebacks"
    return max(connections, exchanges, bad) <= 0 and after.fds <= before, text


def all_gone(report: Report, name: str, server: Pounce, before: int) -> None:
    passed, text = left(server, before)
    report.check(passed, f"{name}: {text}")


# step


async def fill(address: Address) -> tuple[Observed, int, int]:
    """As many requests as may run are running when as many as may wait arrive, and some more. Afterwards as many as may
    run arrive. Returns how many of the first and of the last were answered."""
    holders = [await Connection.open(address) for _ in range(LIMIT)]
    for holder in holders:
        await holder.send(request(f"/hold?{HOLD}"))
        await holder.more()
    observed = await together(address, "/run?0", QUEUE + EXTRA)
    held = 0
    for holder in holders:
        held += (await holder.answer()).content == b"holds, held"
        holder.close()
    return observed, held, await all_served(address)


def step(setting: Setting, report: Report, seconds: float) -> None:
    refused: list[int] = []
    end = time.monotonic() + seconds
    with Pounce(setting, "slowly:app", *LIMITS) as server:
        server.wait_idle()
        before = server.usage().fds
        while not refused or time.monotonic() < end:
            observed, held, then = asyncio.run(fill(server.address))
            observed.judge(report, "step")
            soon = [took for took in observed.refusals if took < QUEUE_TIMEOUT - EARLY]
            later = sorted(observed.refusals)[len(soon) :]
            refused.append(len(soon))
            report.check(
                held == then == LIMIT and len(soon) <= EXTRA,
                f"step: {held} run, {len(soon)} refused at once, {len(later)} after {min(later, default=0):.3f} to "
                f"{max(later, default=0):.3f} s, {observed.tally.answered} admitted; then {then} of {LIMIT} answered",
            )
        # A stall of the machine makes an immediate 503 late.
        usual = sorted(refused)[len(refused) // 2]
        report.check(usual == EXTRA, f"step: {usual} of {QUEUE + EXTRA} found the queue of {QUEUE} full, as a rule")
        all_gone(report, "step", server, before)
        server.stop()


# flood


async def overload(address: Address, count: int, seconds: float) -> Observed:
    observed, began = Observed(), time.monotonic()

    async def client_loop(number: int) -> None:
        client = Client(address, observed.tally, number)
        while (passed := time.monotonic() - began) < seconds:
            takes = SLOW if SLOW_PHASE[0] <= passed % CYCLE < SLOW_PHASE[1] else FAST
            disconnect_after = 0.01 + client.random.random() / 2 if client.random.random() < DISCONNECTING else None
            answer = await observed.ask(client, f"/run?{takes}", disconnect_after)
            if answer is not None and answer.status == 503:
                await asyncio.sleep(retry_after(answer))
        client.close()

    await asyncio.gather(*(client_loop(number) for number in range(count)))
    return observed


QUEUE_LOG = re.compile(r"(\d+) were admitted, (\d+) refused; the longest wait was")


def flood(setting: Setting, report: Report, seconds: float) -> None:
    workers = setting.workers or 2
    count = OVERLOAD * (LIMIT + QUEUE) * workers
    with Pounce(setting, "slowly:app", *LIMITS, workers=workers) as server:
        server.wait_idle()
        before = server.usage().fds
        observed = asyncio.run(overload(server.address, count, max(seconds, SLOW_PHASE[1] + SLOW)))
        tally = observed.tally
        observed.judge(report, f"flood: {count} clients, {workers} workers")
        all_gone(report, "flood", server, before)
        lines = QUEUE_LOG.findall(server.log)
        admitted, refused = (sum(int(line[index]) for line in lines) for index in (0, 1))
        report.check(
            tally.refused <= refused <= tally.refused + tally.disconnected
            and admitted <= tally.answered + tally.disconnected,
            f"flood: the server's log counts the same: {admitted} admitted after a wait, {refused} refused",
        )
        report.check(0 < tally.refused < tally.answered, f"flood: {tally.refused} refused, fewer than answered")
        timed_out, waited = sum(took >= QUEUE_TIMEOUT for took in observed.refusals), max(observed.waits, default=0.0)
        report.check(waited <= QUEUE_TIMEOUT + LATE, f"flood: answered requests waited at most {waited:.2f} s; "
                                                f"{timed_out} were refused after {QUEUE_TIMEOUT:g} s")  # fmt: skip
        report.check(observed.max_running == LIMIT, f"flood: {observed.max_running} ran at a time on a worker, at most")
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
    """The paths that the log must name."""
    first: float = ANSWER_TIMEOUT  # seconds until the first one timed out

    async def too_late(self, handler: str, path: str) -> None:
        connection, sent = await Connection.open(self.address), time.monotonic()
        self.late.append(path)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.send(request(path))
                status = (await connection.answer()).status if HANDLERS[handler] else await self._part(connection)
                took = time.monotonic() - sent
                self.first = min(self.first, took)
                self.seen[f"{handler} {status or 'incomplete'}"] += 1
                if status != HANDLERS[handler] or took < DEADLINE - EARLY:
                    self.wrong.append(f"{path}: {status} after {took:.3f} s")
                elif status:
                    await connection.send(request("/run?0"))
                    if (await connection.answer()).status != 200:
                        self.wrong.append(f"{path}: its connection does not serve the next request")
        except OSError as error:
            self.wrong.append(f"{path}: {type(error).__name__}: {error}")
        finally:
            connection.close()

    async def _part(self, connection: Connection) -> int | None:
        """The status; None when the response has begun and is incomplete."""
        try:
            while True:
                await connection.more()
        except ConnectionError:
            got = bytes(connection.buffer)
        whole = got.endswith(b"0\r\n\r\n") or not got.startswith(b"HTTP/1.1 200")
        return int(got.split(b" ")[1]) if whole else None

    async def in_time(self, path: str, until: float) -> None:
        """One request after the other on one connection. On a busy machine one may be late, and 504 is correct."""
        connection = await Connection.open(self.address)
        while (sent := time.monotonic()) < until:
            await connection.send(request(path))
            answer = await connection.answer()
            took = time.monotonic() - sent
            self.seen[f"in time {answer.status}"] += 1
            if answer.status == 504:
                self.late.append(path.partition("?")[0])
            if not (answer.content == b"ran" or (answer.status == 504 and took >= DEADLINE - EARLY)):
                self.wrong.append(f"{path}: {answer.status} after {took:.3f} s")
            await asyncio.sleep(0.02)
        connection.close()

    async def round(self, number: int) -> None:
        until, paths = time.monotonic() + 1.5 * DEADLINE, ("/run?0.05", f"/after?{2 * DEADLINE}")
        await asyncio.gather(
            *(self.in_time(paths[each % 2], until) for each in range(STEADY)),
            *(self.too_late(name, f"/{name}/{number}-{each}") for name in HANDLERS for each in range(EACH)),
        )


def deadline(setting: Setting, report: Report, seconds: float) -> None:
    end, rounds = time.monotonic() + seconds, 0
    with Pounce(setting, "slowly:app", f"--timeout-request={DEADLINE}", workers=setting.workers or 2) as server:
        server.wait_idle()
        before, seen = server.usage().fds, Deadlines(server.address)
        while not rounds or time.monotonic() < end:
            rounds += 1
            asyncio.run(seen.round(rounds))
        report.log(f"deadline: {', '.join(f'{what}: {count}' for what, count in sorted(seen.seen.items()))}")
        report.check(not seen.wrong, f"deadline: {len(seen.late)} timed out, the first after {seen.first:.2f} s; "
                                     f"wrong: {seen.wrong[:3] or 0}")  # fmt: skip
        report.check(seen.seen["in time 200"] > seen.seen["in time 504"], "deadline: requests in time are answered")
        all_gone(report, "deadline", server, before)
        named = Counter(re.findall(r"Request timed out: GET (/\S+) in \w+ \(\S+slowly\.py:\d+\)", server.log))
        missed = Counter(seen.late) - named, named - Counter(seen.late)
        report.check(not any(missed), f"deadline: the log names {named.total()} with the line of each; missing "
                                      f"{list(missed[0])[:3] or 0}, too many {list(missed[1])[:3] or 0}")  # fmt: skip
        stubborn = len(set(re.findall(r"GET (/stubborn/\S+) in \w+ \(\S+\) ignores its cancellation", server.log)))
        report.check(stubborn == rounds * EACH, f"deadline: the log names {stubborn} that ignore their cancellation")
        server.stop()


# storm


def open_and_close(address: Address, count: int, waiting: bool, gate: Any) -> tuple[int, int]:
    """Opens `count` connections at once when the gate opens, and closes them at once; with `waiting` when all are open.
    Returns how many were open, and how many had sent something."""
    sockets, poll = {}, select.poll()
    gate.wait(OPENING)
    for number in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((f"127.0.2.{number % SOURCES + 1}", 0))
        sock.connect_ex(address)
        sockets[sock.fileno()] = sock, BEGINNINGS[number // 2 % len(BEGINNINGS)]
        poll.register(sock, select.POLLOUT)
    opened = sending = 0
    until = time.monotonic() + OPENING
    while opened < count:
        for fd, _ in poll.poll(200 if waiting else 0):
            poll.unregister(fd)
            sock, beginning = sockets[fd]
            sock.send(beginning)  # raises the error of a failed connection
            opened += 1
            sending += bool(beginning)
        if not waiting or time.monotonic() > until:
            break
    if waiting:
        for _ in "all open", "to be closed":
            gate.wait(2 * OPENING + ANSWER_TIMEOUT)
    for number, (sock, _) in enumerate(sockets.values()):
        if number % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    return opened, sending


def timed_get(address: Address) -> float:
    began = time.monotonic()
    get(address, "/", ANSWER_TIMEOUT)
    return time.monotonic() - began


def storm(setting: Setting, report: Report, seconds: float) -> None:
    descriptors = raise_descriptor_limit() - SPARE  # of a server that is one process; a child needs fewer
    count = min(CONNECTIONS if setting.minutes >= 0.3 else CONNECTIONS // 10, descriptors)
    end, number = time.monotonic() + seconds, 0
    with Pounce(setting, "slowly:app", workers=setting.workers or 2) as server:
        server.wait_idle()
        before = server.usage()
        while number < 2 or time.monotonic() < end:
            waiting = number % 2 == 0
            number += 1
            gate = multiprocessing.get_context("spawn").Barrier(CHILDREN + 1)
            arguments = (server.address, count // CHILDREN, waiting, gate)
            children = [ChildProcess(open_and_close, *arguments) for _ in range(CHILDREN)]
            beside = ""
            with contextlib.suppress(BrokenBarrierError):  # a child reports why
                gate.wait(OPENING)
                if waiting:
                    gate.wait(2 * OPENING + ANSWER_TIMEOUT)
                    took = timed_get(server.address)
                    beside = f", a response beside them in {took:.2f} s, with {server.usage()}"
                    gate.wait(ANSWER_TIMEOUT)
            opened, sending = map(sum, zip(*(child.result(SETTLE) for child in children), strict=True))
            after = timed_get(server.address)
            passed, text = left(server, before.fds)
            report.check(
                passed and (not waiting or opened == count),
                f"storm {number}: {count} at once, {opened} open when closed, {sending} had sent something{beside}; "
                f"then a response in {after:.2f} s; {text}",
            )
        report.log(f"storm: {before} before the first; descriptors allow {descriptors}")
        server.stop()


def run(setting: Setting, report: Report) -> None:
    step(setting, report, setting.seconds * 0.1)
    flood(setting, report, setting.seconds * 0.4)
    deadline(setting, report, setting.seconds * 0.2)
    storm(setting, report, setting.seconds * 0.3)
