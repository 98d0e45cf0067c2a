"""WebSocket clients that mean no good, many of each kind at a time, beside one that does: each is ended at its
deadline, with the code that says why, memory stays bounded, and the good one hears back everything it says.
"""

import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pounce.connections.context import LINGER_TIMEOUT
from stress.kit.errors import Unmeasured
from stress.kit.machine import raise_descriptor_limit
from stress.kit.pounce_server import Pounce
from stress.kit.scenario import MIB, Report, Setting, percentile
from stress.kit.websockets import DEFLATE, Client, frame

TOOLS = ()

EACH = 50  # clients of each kind; those who flood with pings make work for the server until its buffer is full
FLOODING = 10
SHORT = 2.0  # seconds: every deadline, where there is no time for the defaults
MESSAGE = 1 << 20  # bytes: the longest that is taken
HELD = 1 << 20  # bytes of the server's memory that one may hold: messages that wait, a full buffer, half a frame
LATE = 15.0  # seconds an end may come too late: a machine with other things to do fills buffers slowly
WINDOW = 32768  # bytes: else the attackers' own kernel reads megabytes for each
GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
RESET = 0  # in place of a code
PAYLOAD = os.urandom(125)
SMALL = frame(0x82, PAYLOAD)


@dataclass(frozen=True)
class Kind:
    name: str
    data: bytes
    code: int
    deadline: float
    """Seconds after which the server has ended it."""
    floods: bool = False
    """Does it send that for ever?"""
    count: int = EACH
    offer: bytes = b""
    """Of extensions, in its handshake."""


def kinds(ping: float, write: float) -> tuple[Kind, ...]:
    """With these seconds until a ping, and for a pong; and for a client to read."""
    message, unheard = frame(0x82, bytes(60_000)), 2 * ping
    return (
        Kind("never reads", message, RESET, unheard + write, floods=True),
        Kind("floods pings", frame(0x89, bytes(125)) * 100, RESET, unheard + write, floods=True, count=FLOODING),
        Kind("stops in half a frame", message[:30_000], 1011, unheard),
        Kind("sends a bomb", frame(0xC2, bytes(64 * MIB)), 1009, 0.0, offer=DEFLATE),
        Kind("dies without a word", b"", 1011, unheard),
    )


@dataclass
class Attacker:
    kind: Kind
    sock: socket.socket
    left: bytes
    began: float
    ended: float = 0.0
    code: int = RESET


@dataclass
class Good:
    """Says something every few milliseconds, and hears it back."""

    client: Client
    times: list[float] = field(default_factory=list)
    wrong: str = ""
    enough: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            while not self.enough.wait(0.005):
                began = time.monotonic()
                self.client.sock.sendall(SMALL)
                while (seen := self.client.read())[0] == 0x89:  # it answers pings
                    self.client.sock.sendall(frame(0x8A, seen[1]))
                if seen != (0x82, PAYLOAD):
                    raise Unmeasured(f"hears {seen!r}")
                self.times.append(time.monotonic() - began)
        except (OSError, Unmeasured) as error:
            self.wrong = f"{type(error).__name__}: {error}"


def attack(port: int, kinds: Iterable[Kind], patience: float) -> list[Attacker]:
    """All kinds at a time, until each has been ended or patience is."""
    attackers: dict[int, Attacker] = {}
    for kind in [one for one in kinds for _ in range(one.count)]:
        sock = Client(port, kind.offer, WINDOW).sock
        sock.setblocking(False)
        attackers[sock.fileno()] = Attacker(kind, sock, kind.data, time.monotonic())
    poll, until = select.poll(), time.monotonic() + patience
    for fd, each in attackers.items():
        poll.register(fd, GONE | (select.POLLOUT if each.left else 0))
    waiting = set(attackers)
    while waiting and time.monotonic() < until:
        for fd, events in poll.poll(200):
            each = attackers[fd]
            if events & GONE:
                poll.unregister(fd)
                waiting.discard(fd)
                each.ended, each.code = time.monotonic(), last_word(each.sock)
                continue
            try:
                each.left = each.left[each.sock.send(each.left) :]
            except OSError:  # full; or gone, and the next look says so
                continue
            if not each.left and each.kind.floods:
                each.left = each.kind.data
            elif not each.left:
                poll.modify(fd, GONE)
    for each in attackers.values():
        each.sock.close()
    return list(attackers.values())


def last_word(sock: socket.socket) -> int:
    """The code of the Close that is the last thing that came; RESET where the connection was cut."""
    data = b""
    try:
        while part := sock.recv(1 << 20):
            data = (data + part)[-200:]
    except OSError:
        pass
    place = data.rfind(b"\x88")
    return int.from_bytes(data[place + 2 : place + 4]) if place >= 0 and len(data) >= place + 4 else RESET


def run(setting: Setting, report: Report) -> None:
    raise_descriptor_limit()
    ping, write = (20.0, 30.0) if setting.minutes >= 8 else (SHORT, SHORT)
    everyone = kinds(ping, write)
    options = (f"--ws-ping-interval={ping}", f"--ws-ping-timeout={ping}", f"--timeout-write={write}",
               f"--ws-max-size={MESSAGE}")  # fmt: skip
    with Pounce(setting, "sockets:echo", *options, workers=setting.workers or 1) as server:
        good = Good(Client(server.port))
        thread = threading.Thread(target=good.run)
        thread.start()
        try:
            time.sleep(1.0)
            alone, before, most = len(good.times), server.vitals(), 0
            end, number = time.monotonic() + setting.seconds, 0
            while not number or time.monotonic() < end:
                number += 1
                peak = Peak(server)
                peak.start()
                attackers = attack(server.port, everyone, 2 * ping + write + LATE + 5.0)
                most = max(most, peak.stop())
                report.say(f"{number}: then {server.vitals()}")
                for kind in everyone:
                    each = [one for one in attackers if one.kind is kind]
                    late = [one for one in each if not one.ended or one.ended - one.began > kind.deadline + LATE]
                    slowest = max((one.ended - one.began for one in each if one.ended), default=0.0)
                    codes = Counter(one.code for one in each)
                    report.check(not late, f"{number}: {kind.name}: {len(each)}, ended too late: {len(late)}, "
                                           f"the last after {slowest:.1f} s")  # fmt: skip
                    if kind.code:  # else whatever was said is behind what it never reads
                        report.check(set(codes) == {kind.code}, f"{number}: {kind.name}: told {dict(codes)}")
        finally:
            good.enough.set()
            thread.join(60)
        held = (most - before.memory) / len(attackers)
        report.check(held <= HELD, f"{held / 1024:.0f} KiB of memory for each of {len(attackers)} at the most")
        report.check(not good.wrong, f"the good one heard back {len(good.times)} messages; {good.wrong or 'all'}")
        report.say(f"p95 {percentile(good.times[:alone], 95) * 1e3:.1f} ms alone, "
                   f"{percentile(good.times[alone:], 95) * 1e3:.1f} ms with all")  # fmt: skip
        good.client.sock.close()
        time.sleep(LINGER_TIMEOUT + 1)
        after = server.vitals()
        report.check(after.fds < before.fds, f"descriptors {before.fds} -> {after.fds}, {after.memory / MIB:.1f} MiB")
        server.stop()
        report.check("Traceback" not in server.log, f"tracebacks in the log: {server.log.count('Traceback')}")


class Peak:
    """The most memory that a server has while others look away."""

    def __init__(self, server: Pounce) -> None:
        self._server = server
        self._most = 0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def start(self) -> None:
        self._thread.start()

    def _look(self) -> None:
        while not self._enough.wait(0.2):
            self._most = max(self._most, self._server.vitals().memory)

    def stop(self) -> int:
        self._enough.set()
        self._thread.join()
        return self._most
