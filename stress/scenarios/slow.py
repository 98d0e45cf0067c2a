"""Slow attacks: 1,000 clients that hold on to the server, and one normal client, whose requests must stay fast.

The attacks of this module, one kind after the other: connections without a byte, heads and contents that arrive slowly,
responses that are not read from the server or from its kernel, connections that stay open after one request. The server
ends each of them at its deadline; it connects again at once. Then the attacks of slowhttptest.

The normal client sends a request every few milliseconds, alternating between one connection and new ones, before,
during and after each attack. The 95th percentile of its times during the attack is at most twice that without. Both are
measured a few seconds apart, and the server and the normal client get a high priority where that is allowed. An attack
is repeated until most of three tries agree, as the load of other programs is not the same in most tries.
"""

import asyncio
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stress.kit.actions import request
from stress.kit.child_process import ChildProcess
from stress.kit.clients import Connection
from stress.kit.machine import HIGH_PRIORITY, raise_priority
from stress.kit.pounce_server import Address, Pounce, Usage, get
from stress.kit.scenario import MIB, Report, Setting, percentile

TOOLS = ("slowhttptest",)

CLIENTS = 1000
FEW = 100  # of each kind in a short run
HELD = 0.95  # of the slow clients that must be connected at once
PROBE_EVERY = 0.008  # seconds
RATIO = 2.0
EACH = 160 * 1024  # bytes of the server's memory for a slow client: two full buffers and a little more
SHORT = 4.0  # seconds: every deadline in a short run
TRIES = 3  # odd, so that one result has the majority
NICE = 10  # slow clients would be on other machines
CHECK_EVERY = 0.5  # seconds between two checks whether a client has been ended
EXTRA = 8.0  # seconds that slowhttptest would go on after an attack
BRIEF = 1.5
LATE = 5.0  # seconds that an end may be late on a busy machine


@dataclass(frozen=True)
class Deadlines:
    """The server's deadlines, in seconds."""

    head: float
    body: float
    write: float
    keep_alive: float

    @property
    def options(self) -> list[str]:
        return [f"--timeout-request-head={self.head}", f"--timeout-request-body={self.body}",
                f"--timeout-write={self.write}", f"--timeout-keep-alive={self.keep_alive}"]  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """What the slow clients of one kind do."""

    name: str
    deadline: str  # a field of Deadlines
    first: bytes  # sent at once
    then: bytes = b""  # sent twice within the deadline
    reads: int = 0  # bytes read twice within the deadline
    window: int | None = None


ATTACKS = (
    Attack("silence", "head", b""),
    Attack("slow head", "head", b"GET / HTTP/1.1\r\nHost: stress\r\n", b"X-a: b\r\n"),
    Attack("slow content", "body", request("/upload", bytes(1_000_000))[:-1_000_000], b"x" * 10),
    Attack("slow reading", "write", request("/big?8000000"), reads=16, window=4096),
    Attack("no reading", "write", request("/wait?100000"), window=4096),  # fits into the buffers of the server's kernel
    Attack("idleness", "keep_alive", request("/"), reads=65536),
)


def probe(address: Address, seconds: float) -> list[float]:
    """The times, in seconds, of a normal client's requests."""
    times: list[float] = []
    end, kept = time.monotonic() + seconds, None
    while (now := time.monotonic()) < end:
        if kept is None:
            kept = socket.create_connection(address, 30)
            kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fresh = len(times) % 2 == 1
        sock = socket.create_connection(address, 30) if fresh else kept
        sock.sendall(request("/", fields="Connection: close\r\n" if fresh else ""))
        answer = b""
        while not answer.endswith(b"hello"):
            if not (data := sock.recv(4096)):
                raise ConnectionError(f"no answer after {len(times)}: {answer!r}")
            answer += data
        times.append(time.monotonic() - now)
        if fresh:
            sock.close()
        time.sleep(max(0.0, now + PROBE_EVERY - time.monotonic()))
    return times


@dataclass
class Seen:
    """What the slow clients of one kind have seen."""

    ended: list[float] = field(default_factory=list)
    """Seconds from the connection of each to its end."""
    overdue: list[float] = field(default_factory=list)
    refused: int = 0
    held: int = 0
    max_held: int = 0


def hold(address: Address, attacks: Sequence[tuple[Attack, float]], count: int, seconds: float) -> list[Seen]:
    """Runs `count` slow clients of each kind for `seconds`."""

    async def all_kinds() -> list[Seen]:
        kinds = (_hold(address, attack, count, seconds, deadline) for attack, deadline in attacks)
        return await asyncio.gather(*kinds)

    return asyncio.run(all_kinds())


async def _hold(address: Address, attack: Attack, count: int, seconds: float, deadline: float) -> Seen:
    seen, end = Seen(), time.monotonic() + seconds

    async def slow_client(number: int) -> None:
        await asyncio.sleep(number / count)  # spread over a second
        while (began := time.monotonic()) < end:
            try:
                connection = await Connection.open(address, window=attack.window)
            except OSError:
                seen.refused += 1
                await asyncio.sleep(0.5)
                continue
            seen.held += 1
            seen.max_held = max(seen.max_held, seen.held)
            ended, acts = not await _started(connection, attack), began + deadline / 2
            while not ended and time.monotonic() < end:
                await asyncio.sleep(CHECK_EVERY)
                ended = _ended(connection)
                if not ended and time.monotonic() >= acts:
                    ended, acts = not _continue(connection, attack), acts + deadline / 2
            lasted = time.monotonic() - began
            if ended:
                seen.ended.append(lasted)
            elif lasted > deadline + LATE:
                seen.overdue.append(lasted)
            seen.held -= 1
            connection.close(reset=True)

    await asyncio.gather(*(slow_client(number) for number in range(count)))
    return seen


async def _started(connection: Connection, attack: Attack) -> bool:
    try:
        await connection.send(attack.first)
    except OSError:
        return False
    return True


def _ended(connection: Connection) -> bool:
    """Has the server closed or reset the connection?"""
    poll = select.poll()
    poll.register(connection.sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _continue(connection: Connection, attack: Attack) -> bool:
    """Sends or reads a little. False when the server has ended the connection."""
    try:
        if attack.then:
            connection.sock.send(attack.then)
        if attack.reads:
            connection.sock.recv(attack.reads)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


# slowhttptest

SLOWHTTPTEST = {
    "slowhttptest, slow headers": ["-H", "-i", "1", "-x", "24", "-u", "{url}/"],
    "slowhttptest, slow body": ["-B", "-i", "1", "-s", "1000000", "-x", "8", "-u", "{url}/upload"],
    "slowhttptest, slow read": ["-X", "-n", "2", "-w", "512", "-y", "1024", "-z", "16", "-k", "3",
                                "-u", "{url}/big?2000000"],
    "slowhttptest, range": ["-R", "-a", "1", "-b", "3000", "-u", "{url}/file"],
}  # fmt: skip


def slowhttptest(arguments: list[str], url: str, rate: int, seconds: float, folder: Path) -> dict[str, Any]:
    command = ["slowhttptest", "-c", str(CLIENTS), "-r", str(rate), "-l", str(round(seconds)), "-p", "5", "-g", "-o",
               str(folder / "slowhttptest"), *(word.format(url=url) for word in arguments)]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=seconds + 60)  # fmt: skip
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout)
    lines = (folder / "slowhttptest.csv").read_text().splitlines()[1:]  # one for each second
    rows = [(int(closed), int(connected)) for _, closed, _, connected, _ in (line.split(",") for line in lines)]
    return {
        "available": re.findall(r"service available: +(\w+)", text)[-1:],
        "end": "".join(re.findall(r"Exit status: (.*)", text)[-1:]).strip(),
        "connected": max((connected for _, connected in rows), default=0),
        "connected or closed": max(map(sum, rows), default=0),
    }


# The run


@dataclass
class Slow:
    report: Report
    server: Pounce
    deadlines: Deadlines
    beside: float  # seconds of the normal client before and after each attack
    shortest: float  # seconds of an attack, at least
    folder: Path
    brief: bool = False
    """A short run: only the ends of the slow clients are checked."""
    left: int = 0  # the server's connections at the end of the last attack, while the slow clients were there

    def _times(self, seconds: float) -> list[float]:
        with ChildProcess(probe, self.server.address, seconds, nice=HIGH_PRIORITY) as client:
            return client.result(seconds + 60)

    def under(
        self, slow_clients: ChildProcess, seconds: float, empty: Usage, until: float
    ) -> tuple[Any, list[float], Usage]:
        """During an attack that has just begun and takes `seconds`: what the slow clients have seen, the normal
        client's times, and the usage. Waits until `until` for the ends of the slow clients."""
        with slow_clients:
            time.sleep(1.5)  # until the slow clients are connected
            with ChildProcess(probe, self.server.address, seconds - 2.0, nice=HIGH_PRIORITY) as client:
                time.sleep(max(0.5, (seconds - 2.0) / 2))
                held = self.server.usage()
                times = client.result(seconds + 60)
            while (left := self.server.usage().fds - empty.fds) > 2 and time.monotonic() < until:
                time.sleep(0.2)
            self.left = max(left, self.left)
            return slow_clients.result(seconds + 120), times, held

    def attack(
        self, name: str, start: Callable[[float], ChildProcess], deadline: float, count: int = CLIENTS, *,
        once: bool = False
    ) -> list[Any]:  # fmt: skip
        """Checks the normal client and the memory during an attack, and returns what the slow clients have seen in each
        try. `once`: they do not connect again, so that they are connected until the deadline only."""
        # The server scans for progress in the kernel's buffers; that end is up to an eighth of the deadline late.
        seconds = max(self.shortest, deadline * 1.125 + 5)
        empty, self.left = self.server.usage(), 0
        results: list[Any] = []
        ratios: list[float] = []
        highest = 0
        while max(good := sum(ratio <= RATIO for ratio in ratios), len(ratios) - good) <= TRIES // 2:
            without = self._times(self.beside)
            until = time.monotonic() + seconds + EXTRA - 1 if once else 0.0  # before slowhttptest ends by itself
            seen, under, held = self.under(start(seconds), deadline if once else seconds, empty, until)
            without += self._times(self.beside)
            before, after = (percentile(times, 95) * 1e3 for times in (without, under))
            results.append(seen)
            ratios.append(after / before)
            highest = max(highest, held.memory - empty.memory)
            self.report.log(f"{name}: {seen_text(seen)}; {held.fds - empty.fds} fds; "
                            f"normal p95 {before:.2f} ms without, {after:.2f} ms during it")  # fmt: skip
            if self.brief:
                break
        text = f"{name}: a normal client's p95 is {', '.join(f'{ratio:.2f}' for ratio in ratios)} times that without"
        if self.brief:
            self.report.log(f"{text}; too few for a verdict")
        else:
            self.report.check(good > TRIES // 2, text)
        each = highest / count
        self.report.check(each <= EACH, f"{name}: {each / 1024:.1f} KiB for a slow client")
        return results

    def own(self, attacks: Sequence[Attack], count: int) -> None:
        """The attacks of this module, these at a time."""
        deadlines = [getattr(self.deadlines, attack.deadline) for attack in attacks]

        pairs = list(zip(attacks, deadlines, strict=True))

        def start(seconds: float) -> ChildProcess:
            return ChildProcess(hold, self.server.address, pairs, count, seconds, nice=NICE)

        name = attacks[0].name if len(attacks) == 1 else "all kinds"
        tries = self.attack(name, start, max(deadlines), count * len(attacks))
        for attack, deadline, *each in zip(attacks, deadlines, *tries, strict=True):
            ended = [lasted for seen in each for lasted in seen.ended]
            overdue = sum(len(seen.overdue) for seen in each)
            good = [lasted for lasted in ended if deadline - 0.5 <= lasted <= deadline + LATE]
            self.report.check(
                len(ended) >= count * len(each) * 0.9 and len(good) == len(ended) and not overdue,
                f"{attack.name}: {len(ended)} ended, after {min(ended, default=0):.1f} to "
                f"{max(ended, default=0):.1f} s (deadline {deadline:g} s), {overdue} overdue",
            )
            least = min(seen.max_held for seen in each)
            self.report.check(least >= count * HELD, f"{attack.name}: {least} of {count} held at once")

    def by_slowhttptest(self, name: str, arguments: list[str]) -> None:
        deadline = self.deadlines.write if "-X" in arguments else self.deadlines.head
        answered = "-R" in arguments  # at once: the connections are not held, and are opened one after the other

        def start(seconds: float) -> ChildProcess:
            url, rate = f"http://127.0.0.1:{self.server.port}", round(CLIENTS / seconds) if answered else CLIENTS
            return ChildProcess(slowhttptest, arguments, url, rate, seconds + EXTRA, self.folder)

        tries = self.attack(name, start, deadline, once=True)
        self.report.check(all(seen["available"] == ["YES"] for seen in tries), f"{name}: the service was available")
        # It does not report the connections of its last second.
        what, share = ("connected or closed", 0.7) if answered else ("connected", HELD)
        least = min(seen[what] for seen in tries)
        self.report.check(least >= CLIENTS * share, f"{name}: {least} of {CLIENTS} {what}")
        # It opens each connection once, so that none may be left when it ends. It does not notice every end itself.
        self.report.check(self.left <= 2, f"{name}: connections not ended at the deadline: {self.left}")


def seen_text(seen: Any) -> str:
    if isinstance(seen, list):
        return f"{sum(one.max_held for one in seen)} held at once, {sum(one.refused for one in seen)} failed to connect"
    return ", ".join(f"{name} {value}" for name, value in seen.items())


def run(setting: Setting, report: Report) -> None:
    each = setting.seconds / (len(ATTACKS) + len(SLOWHTTPTEST)) / (TRIES // 2 + 1)
    brief = setting.minutes < 1
    each_deadline = (10, 10, 30, 5) if setting.minutes >= 8 else (BRIEF if brief else SHORT,) * 4
    deadlines = Deadlines(*each_deadline)
    with Pounce(setting, "busy:app", *deadlines.options, workers=setting.workers or 1) as server:
        slow = Slow(report, server, deadlines, max(1.0, each * 0.15), each * 0.5, setting.folder, brief)
        raise_priority(server.pid)
        slow._times(1.0)  # what is loaded when it is first needed is loaded
        before = server.wait_idle(), server.usage()
        if brief:
            slow.own(ATTACKS, FEW)
        for attack in ATTACKS if not brief else ():
            slow.own((attack,), CLIENTS)
        for name, arguments in SLOWHTTPTEST.items() if not brief else ():
            slow.by_slowhttptest(name, arguments)
        census, after = server.wait_idle(), server.usage()
        report.check(after.fds <= before[1].fds, f"descriptors {before[1].fds} -> {after.fds}")
        grown = after.memory - before[1].memory
        report.check(grown <= EACH * CLIENTS, f"memory after all have disconnected: {grown / MIB:.1f} MiB more")
        report.check(census["Exchange"] <= before[0]["Exchange"], f"exchanges left: {census['Exchange'] - 1}")
        get(server.address, "/")
        server.stop()
