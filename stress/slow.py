"""Slow attacks: a thousand clients that hold on to the server, and one normal client that must not notice.

By clients of our own, each kind for itself: connections on which nothing comes, heads and contents that trickle,
answers that are not taken, connections that ask once and stay. Each attacker is ended at its deadline, and comes again
at once. Then the same by slowhttptest.

The normal client asks every few milliseconds, by turns on a kept and on a new connection, before, under, and after each
attack; the 95th percentile of its times under the attack is at most twice that without. Both are of one run, a few
seconds apart, and the server and its client run before everything else on the machine, where that is allowed. Where the
attack looks worse it is tried again, at most three times: what a neighbour did does not happen in every try, what
the attack did does.
"""

import asyncio
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stress.clients import Connection, request
from stress.scene import FIRST, MIB, Address, Apart, Pounce, Report, Setting, Vitals, get, percentile

ABOUT = "1,000 slow clients held: a normal client's p95 at most doubles, each attacker ends at its deadline"
TOOLS = ("slowhttptest",)

ATTACKERS = 1000
PROBE_EVERY = 0.008  # seconds
RATIO = 2.0
EACH = 160 * 1024  # bytes of the server's memory that an attacker may hold: two full buffers and change
SHORT = 3.0  # seconds: every deadline, where there is no time for the defaults
TRIES = 4
NICE = 10  # attackers have machines of their own
LOOK = 0.5  # seconds between two looks whether an attacker has been ended
PATIENCE = 20.0  # seconds in which a program of 1,000 connections comes to its end by itself
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


def hold(address: Address, attack: Attack, count: int, seconds: float, deadline: float) -> dict[str, Any]:
    """Holds so many attackers for so long, and says how long each that was ended had been let in."""
    return asyncio.run(_hold(address, attack, count, seconds, deadline))


async def _hold(address: Address, attack: Attack, count: int, seconds: float, deadline: float) -> dict[str, Any]:
    ended: list[float] = []
    overdue: list[float] = []
    refused = most = held = 0
    end = time.monotonic() + seconds

    async def attacker(number: int) -> None:
        nonlocal refused, most, held
        await asyncio.sleep(number / count)  # not all in one moment
        while (began := time.monotonic()) < end:
            try:
                connection = await Connection.open(address, window=attack.window)
            except OSError:
                refused += 1
                await asyncio.sleep(0.5)
                continue
            held += 1
            most = max(most, held)
            over, acts = not await _started(connection, attack), began + deadline / 2
            while not over and time.monotonic() < end:
                await asyncio.sleep(LOOK)
                over = _over(connection)
                if not over and time.monotonic() >= acts:
                    over, acts = not _go_on(connection, attack), acts + deadline / 2
            lasted = time.monotonic() - began
            if over:
                ended.append(lasted)
            elif lasted > deadline + LATE:
                overdue.append(lasted)
            held -= 1
            connection.close(reset=True)

    await asyncio.gather(*(attacker(number) for number in range(count)))
    return {"ended": ended, "overdue": overdue, "refused": refused, "most": most}


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


def slowhttptest(arguments: list[str], url: str, seconds: float) -> dict[str, Any]:
    command = ["slowhttptest", "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-l", str(round(seconds)), "-p", "5",
               *(word.format(url=url) for word in arguments)]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=seconds + 60)  # fmt: skip
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout)
    states = {name: int(number) for name, number in re.findall(r"(\w+): +(\d+)", text)}  # the last of each
    return {
        "available": re.findall(r"service available: +(\w+)", text)[-1:],
        "end": "".join(re.findall(r"Exit status: (.*)", text)[-1:]).strip(),
        **{name: states.get(name) for name in ("pending", "connected", "error", "closed")},
    }


# The run


@dataclass
class Slow:
    report: Report
    server: Pounce
    deadlines: Deadlines
    beside: float  # seconds of the normal client's life before and after each attack
    least: float  # seconds of an attack
    brief: bool = False
    """There is no time for more than to see that the attackers end."""
    left: int = 0  # descriptors at the end of the last attack, before the attackers went

    def _times(self, seconds: float) -> list[float]:
        with Apart(probe, self.server.address, seconds, nice=FIRST) as client:
            return client.result(seconds + 60)

    def under(self, attackers: Apart, seconds: float, empty: Vitals, once: bool) -> tuple[Any, list[float], Vitals]:
        """Under an attack that has begun: what the attackers say, the normal client's times, what is held."""
        with attackers:
            time.sleep(1.5)  # until they are there
            with Apart(probe, self.server.address, seconds - 2.5, nice=FIRST) as client:
                time.sleep(max(0.5, (seconds - 2.5) / 2))
                held = self.server.vitals()
                times = client.result(seconds + 60)
            until = time.monotonic() + PATIENCE
            while (left := self.server.vitals().fds - empty.fds) > 2 and once and time.monotonic() < until:
                time.sleep(0.2)
            self.left = left
            return attackers.result(seconds + 60), times, held

    def attack(self, name: str, start: Callable[[float], Apart], deadline: float, *, once: bool = False) -> Any:
        """Gives what the attackers have seen. Judges the normal client and the memory. `once`: the attackers do not
        come again."""
        seconds = max(self.least, deadline + (3 if self.brief else 4))
        empty = self.server.vitals()
        for left in reversed(range(TRIES)):
            without = self._times(self.beside)
            seen, under, held = self.under(start(seconds), seconds, empty, once)
            without += self._times(self.beside)
            before, after = (percentile(times, 95) * 1e3 for times in (without, under))
            ratio = after / before
            self.report.say(f"{name}: {seen_text(seen)}; normal p95 {before:.2f} ms without, {after:.2f} ms under it")
            if ratio <= RATIO or not left or self.brief:
                break
            self.report.say(f"{name}: {ratio:.2f} times; again")
        if self.brief:
            self.report.say(f"{name}: a normal client's p95 is {ratio:.2f} times that without; too few to judge")
        else:
            self.report.check(ratio <= RATIO, f"{name}: a normal client's p95 is {ratio:.2f} times that without")
        each = (held.memory - empty.memory) / ATTACKERS
        self.report.check(each <= EACH, f"{name}: {held.fds} fds held; {each / 1024:.1f} KiB an attacker")
        return seen

    def own(self, attack: Attack) -> None:
        deadline = getattr(self.deadlines, attack.deadline)

        def start(seconds: float) -> Apart:
            return Apart(hold, self.server.address, attack, ATTACKERS, seconds, deadline, nice=NICE)

        seen = self.attack(attack.name, start, deadline)
        ended = seen["ended"]
        good = [lasted for lasted in ended if deadline - 0.5 <= lasted <= deadline + LATE]
        self.report.check(
            len(ended) >= ATTACKERS * 0.9 and len(good) == len(ended) and not seen["overdue"],
            f"{attack.name}: {len(ended)} ended, after {min(ended, default=0):.1f} to {max(ended, default=0):.1f} s "
            f"(deadline {deadline:g} s), {len(seen['overdue'])} overdue",
        )

    def theirs(self, name: str, arguments: list[str]) -> None:
        deadline = self.deadlines.write if "-X" in arguments else self.deadlines.head

        def start(seconds: float) -> Apart:
            url = f"http://127.0.0.1:{self.server.port}"
            return Apart(slowhttptest, arguments, url, seconds + PATIENCE)

        seen = self.attack(name, start, deadline, once=True)
        self.report.check(seen["available"] == ["YES"], f"{name}: the service was available: {seen}")
        # It opens each connection once, so that none may be left before it ends; it does not notice every end itself.
        self.report.check(self.left <= 2, f"{name}: connections not ended at the deadline: {self.left}")


def seen_text(seen: dict[str, Any]) -> str:
    if "most" in seen:
        return f"{seen['most']} held at once, {seen['refused']} turned away"
    return ", ".join(f"{name} {value}" for name, value in seen.items())


def run(setting: Setting, report: Report) -> None:
    each = setting.seconds / (len(ATTACKS) + len(SLOWHTTPTEST))
    brief = setting.minutes < 1
    each_deadline = (10, 10, 30, 5) if setting.minutes >= 8 else (BRIEF if brief else SHORT,) * 4
    deadlines = Deadlines(*each_deadline)
    with Pounce(setting, "busy:app", *deadlines.options, workers=setting.workers or 1) as server:
        slow = Slow(report, server, deadlines, beside=max(1.0, each * 0.15), least=each * 0.5, brief=brief)
        server.go_first()
        slow._times(1.0)  # what is loaded when it is first needed is loaded
        before = server.quiet(), server.vitals()
        attacks = ATTACKS if not brief else ATTACKS[1:4:2]
        for attack in attacks:
            slow.own(attack)
        for name, arguments in SLOWHTTPTEST.items() if not brief else ():
            slow.theirs(name, arguments)
        census, after = server.quiet(), server.vitals()
        report.check(after.fds <= before[1].fds, f"descriptors {before[1].fds} -> {after.fds}")
        grown = after.memory - before[1].memory
        report.check(grown <= EACH * ATTACKERS, f"memory kept when all were gone: {grown / MIB:.1f} MiB more")
        report.check(census["Exchange"] <= before[0]["Exchange"], f"exchanges left: {census['Exchange'] - 1}")
        get(server.address, "/")
        server.stop()
