"""Slow attacks: a thousand clients that hold on to the server, and one normal client that must not notice.

By clients of our own, each kind for itself: connections on which nothing comes, heads and contents that trickle,
answers that are not taken, from the server or from its kernel, connections that ask once and stay. Each attacker is
ended at its deadline, and comes again at once. Then the same by slowhttptest.

The normal client asks every few milliseconds, by turns on a kept and on a new connection, before, under, and after each
attack; the 95th percentile of its times under the attack is at most twice that without. Both are of one run, a few
seconds apart, and the server and its client run before everything else on the machine, where that is allowed. Each
attack is tried until most of three tries say the same: what a neighbour did does not happen in most of them.
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
from stress.kit.child_process import Apart
from stress.kit.clients import Connection
from stress.kit.machine import FIRST
from stress.kit.pounce_server import Address, Pounce, Vitals, get
from stress.kit.scenario import MIB, Report, Setting, percentile

TOOLS = ("slowhttptest",)

ATTACKERS = 1000
FEW = 100  # of each kind, where there is little time
HELD = 0.95  # of the attackers at once, or it was no attack
PROBE_EVERY = 0.008  # seconds
RATIO = 2.0
EACH = 160 * 1024  # bytes of the server's memory that an attacker may hold: two full buffers and change
SHORT = 4.0  # seconds: every deadline, where there is no time for the defaults
TRIES = 3  # odd: their median counts
NICE = 10  # attackers have machines of their own
LOOK = 0.5  # seconds between two looks whether an attacker has been ended
PATIENCE = 8.0  # seconds longer than an attack slowhttptest would go on
BRIEF = 1.5
LATE = 5.0  # seconds an end may come too late, on a machine with other things to do


@dataclass(frozen=True)
class Deadlines:
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
    name: str
    deadline: str  # a field of Deadlines
    first: bytes  # sent at once
    then: bytes = b""  # sent twice in a deadline: it need not show more life than that
    reads: int = 0  # bytes read as often
    window: int | None = None


ATTACKS = (
    Attack("silence", "head", b""),
    Attack("slow head", "head", b"GET / HTTP/1.1\r\nHost: stress\r\n", b"X-a: b\r\n"),
    Attack("slow content", "body", request("/upload", bytes(1_000_000))[:-1_000_000], b"x" * 10),
    Attack("slow reading", "write", request("/big?8000000"), reads=16, window=4096),
    Attack("no reading", "write", request("/wait?100000"), window=4096),  # the server's kernel takes it all
    Attack("idleness", "keep_alive", request("/"), reads=65536),
)


def probe(address: Address, seconds: float) -> list[float]:
    """Seconds that each of a normal client's requests took."""
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
    """By the attackers of one kind."""

    ended: list[float] = field(default_factory=list)
    """How long each that was ended had been let in."""
    overdue: list[float] = field(default_factory=list)
    refused: int = 0
    held: int = 0
    most: int = 0


def hold(address: Address, attacks: Sequence[tuple[Attack, float]], count: int, seconds: float) -> list[Seen]:
    """Holds so many attackers of each kind for so long."""

    async def all_kinds() -> list[Seen]:
        kinds = (_hold(address, attack, count, seconds, deadline) for attack, deadline in attacks)
        return await asyncio.gather(*kinds)

    return asyncio.run(all_kinds())


async def _hold(address: Address, attack: Attack, count: int, seconds: float, deadline: float) -> Seen:
    seen, end = Seen(), time.monotonic() + seconds

    async def attacker(number: int) -> None:
        await asyncio.sleep(number / count)  # not all in one moment
        while (began := time.monotonic()) < end:
            try:
                connection = await Connection.open(address, window=attack.window)
            except OSError:
                seen.refused += 1
                await asyncio.sleep(0.5)
                continue
            seen.held += 1
            seen.most = max(seen.most, seen.held)
            over, acts = not await _started(connection, attack), began + deadline / 2
            while not over and time.monotonic() < end:
                await asyncio.sleep(LOOK)
                over = _over(connection)
                if not over and time.monotonic() >= acts:
                    over, acts = not _go_on(connection, attack), acts + deadline / 2
            lasted = time.monotonic() - began
            if over:
                seen.ended.append(lasted)
            elif lasted > deadline + LATE:
                seen.overdue.append(lasted)
            seen.held -= 1
            connection.close(reset=True)

    await asyncio.gather(*(attacker(number) for number in range(count)))
    return seen


async def _started(connection: Connection, attack: Attack) -> bool:
    try:
        await connection.send(attack.first)
    except OSError:
        return False
    return True


def _over(connection: Connection) -> bool:
    """Has the server ended it, however that shows?"""
    poll = select.poll()
    poll.register(connection.sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _go_on(connection: Connection, attack: Attack) -> bool:
    """Does a little. False when the server has ended it."""
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
    command = ["slowhttptest", "-c", str(ATTACKERS), "-r", str(rate), "-l", str(round(seconds)), "-p", "5", "-g", "-o",
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
    beside: float  # seconds of the normal client's life before and after each attack
    least: float  # seconds of an attack
    folder: Path
    brief: bool = False
    """There is no time for more than to see that the attackers end."""
    left: int = 0  # descriptors at the end of the last attack, before the attackers went

    def _times(self, seconds: float) -> list[float]:
        with Apart(probe, self.server.address, seconds, nice=FIRST) as client:
            return client.result(seconds + 60)

    def under(self, attackers: Apart, seconds: float, empty: Vitals, until: float) -> tuple[Any, list[float], Vitals]:
        """Under an attack that has just begun and is there for so long: what the attackers say, the normal client's
        times, what is held. Waits until then for the attackers' ends."""
        with attackers:
            time.sleep(1.5)  # until they are there
            with Apart(probe, self.server.address, seconds - 2.0, nice=FIRST) as client:
                time.sleep(max(0.5, (seconds - 2.0) / 2))
                held = self.server.vitals()
                times = client.result(seconds + 60)
            while (left := self.server.vitals().fds - empty.fds) > 2 and time.monotonic() < until:
                time.sleep(0.2)
            self.left = max(left, self.left)
            return attackers.result(seconds + 120), times, held

    def attack(
        self, name: str, start: Callable[[float], Apart], deadline: float, count: int = ATTACKERS, *, once: bool = False
    ) -> list[Any]:  # fmt: skip
        """Gives what the attackers have seen in each try. Judges the normal client and the memory. `once`: the
        attackers do not come again, so that it looks for them until the deadline only."""
        # What lies in the kernel is looked at now and then, and its end is an eighth of the deadline late.
        seconds = max(self.least, deadline * 1.125 + 5)
        empty, self.left = self.server.vitals(), 0
        saw: list[Any] = []
        ratios: list[float] = []
        most = 0
        while max(good := sum(ratio <= RATIO for ratio in ratios), len(ratios) - good) <= TRIES // 2:
            without = self._times(self.beside)
            until = time.monotonic() + seconds + PATIENCE - 1 if once else 0.0  # before they go by themselves
            seen, under, held = self.under(start(seconds), deadline if once else seconds, empty, until)
            without += self._times(self.beside)
            before, after = (percentile(times, 95) * 1e3 for times in (without, under))
            saw.append(seen)
            ratios.append(after / before)
            most = max(most, held.memory - empty.memory)
            self.report.say(f"{name}: {seen_text(seen)}; {held.fds - empty.fds} fds; "
                            f"normal p95 {before:.2f} ms without, {after:.2f} ms under it")  # fmt: skip
            if self.brief:
                break
        text = f"{name}: a normal client's p95 is {', '.join(f'{ratio:.2f}' for ratio in ratios)} times that without"
        if self.brief:
            self.report.say(f"{text}; too few to judge")
        else:
            self.report.check(good > TRIES // 2, text)
        each = most / count
        self.report.check(each <= EACH, f"{name}: {each / 1024:.1f} KiB an attacker")
        return saw

    def own(self, attacks: Sequence[Attack], count: int) -> None:
        """These at a time."""
        deadlines = [getattr(self.deadlines, attack.deadline) for attack in attacks]

        pairs = list(zip(attacks, deadlines, strict=True))

        def start(seconds: float) -> Apart:
            return Apart(hold, self.server.address, pairs, count, seconds, nice=NICE)

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
            least = min(seen.most for seen in each)
            self.report.check(least >= count * HELD, f"{attack.name}: {least} of {count} held at once")

    def theirs(self, name: str, arguments: list[str]) -> None:
        deadline = self.deadlines.write if "-X" in arguments else self.deadlines.head
        answered = "-R" in arguments  # at once: there is nothing to hold, so that they come one after the other

        def start(seconds: float) -> Apart:
            url, rate = f"http://127.0.0.1:{self.server.port}", round(ATTACKERS / seconds) if answered else ATTACKERS
            return Apart(slowhttptest, arguments, url, rate, seconds + PATIENCE, self.folder)

        tries = self.attack(name, start, deadline, once=True)
        self.report.check(all(seen["available"] == ["YES"] for seen in tries), f"{name}: the service was available")
        # What has come in the last second it does not say.
        what, share = ("connected or closed", 0.7) if answered else ("connected", HELD)
        least = min(seen[what] for seen in tries)
        self.report.check(least >= ATTACKERS * share, f"{name}: {least} of {ATTACKERS} {what}")
        # It opens each connection once, so that none may be left before it ends; it does not notice every end itself.
        self.report.check(self.left <= 2, f"{name}: connections not ended at the deadline: {self.left}")


def seen_text(seen: Any) -> str:
    if isinstance(seen, list):
        return f"{sum(one.most for one in seen)} held at once, {sum(one.refused for one in seen)} turned away"
    return ", ".join(f"{name} {value}" for name, value in seen.items())


def run(setting: Setting, report: Report) -> None:
    each = setting.seconds / (len(ATTACKS) + len(SLOWHTTPTEST)) / (TRIES // 2 + 1)
    brief = setting.minutes < 1
    each_deadline = (10, 10, 30, 5) if setting.minutes >= 8 else (BRIEF if brief else SHORT,) * 4
    deadlines = Deadlines(*each_deadline)
    with Pounce(setting, "busy:app", *deadlines.options, workers=setting.workers or 1) as server:
        slow = Slow(report, server, deadlines, max(1.0, each * 0.15), each * 0.5, setting.folder, brief)
        server.go_first()
        slow._times(1.0)  # what is loaded when it is first needed is loaded
        before = server.quiet(), server.vitals()
        if brief:
            slow.own(ATTACKS, FEW)
        for attack in ATTACKS if not brief else ():
            slow.own((attack,), ATTACKERS)
        for name, arguments in SLOWHTTPTEST.items() if not brief else ():
            slow.theirs(name, arguments)
        census, after = server.quiet(), server.vitals()
        report.check(after.fds <= before[1].fds, f"descriptors {before[1].fds} -> {after.fds}")
        grown = after.memory - before[1].memory
        report.check(grown <= EACH * ATTACKERS, f"memory kept when all were gone: {grown / MIB:.1f} MiB more")
        report.check(census["Exchange"] <= before[0]["Exchange"], f"exchanges left: {census['Exchange'] - 1}")
        get(server.address, "/")
        server.stop()
