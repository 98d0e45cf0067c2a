"""Hostile WebSocket clients, many of each kind at a time, beside a normal one: each is ended at its deadline with the
correct code, memory stays bounded, and every message of the normal client is echoed.
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

EACH = 50  # clients of each kind
FLOODING = 10  # clients that flood with pings: they occupy the server until its buffer is full
SHORT = 2.0  # seconds: every deadline in a short run
MESSAGE = 1 << 20  # bytes: --ws-max-size
HELD = 1 << 20  # bytes of the server's memory for a client: queued messages, a full buffer, half a frame
LATE = 15.0  # seconds that an end may be late: buffers fill slowly on a busy machine
WINDOW = 32768  # bytes: by default the kernel would receive megabytes for each client
CLOSED = select.POLLRDHUP | select.POLLHUP | select.POLLERR
RESET = 0  # no Close was received
PAYLOAD = os.urandom(125)
SMALL = frame(0x82, PAYLOAD)


@dataclass(frozen=True)
class Kind:
    """What the clients of one kind do."""

    name: str
    data: bytes
    code: int
    deadline: float
    """Seconds until the server has ended it."""
    floods: bool = False
    """Does it send `data` without end?"""
    count: int = EACH
    offer: bytes = b""
    """The extensions that it offers in its handshake."""


def kinds(ping: float, write: float) -> tuple[Kind, ...]:
    """The kinds, for these deadlines: `ping` seconds until a ping and for its pong, `write` for the client to read."""
    message, no_pong = frame(0x82, bytes(60_000)), 2 * ping
    return (
        Kind("never reads", message, RESET, no_pong + write, floods=True),
        Kind("floods pings", frame(0x89, bytes(125)) * 100, RESET, no_pong + write, floods=True, count=FLOODING),
        Kind("stops within a frame", message[:30_000], 1011, no_pong),
        Kind("sends a bomb", frame(0xC2, bytes(64 * MIB)), 1009, 0.0, offer=DEFLATE),
        Kind("vanishes", b"", 1011, no_pong),
    )


@dataclass
class HostileClient:
    """A client of a kind, and how its connection ended."""

    kind: Kind
    sock: socket.socket
    left: bytes
    began: float
    ended: float = 0.0
    code: int = RESET


@dataclass
class NormalClient:
    """Sends a message every few milliseconds and checks its echo."""

    client: Client
    times: list[float] = field(default_factory=list)
    wrong: str = ""
    stop_requested: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            while not self.stop_requested.wait(0.005):
                began = time.monotonic()
                self.client.sock.sendall(SMALL)
                while (seen := self.client.read())[0] == 0x89:  # a ping of the server
                    self.client.sock.sendall(frame(0x8A, seen[1]))
                if seen != (0x82, PAYLOAD):
                    raise Unmeasured(f"receives {seen!r}")
                self.times.append(time.monotonic() - began)
        except (OSError, Unmeasured) as error:
            self.wrong = f"{type(error).__name__}: {error}"


def attack(port: int, kinds: Iterable[Kind], timeout: float) -> list[HostileClient]:
    """Runs all kinds at a time, until each client has been ended or `timeout` seconds are over."""
    clients: dict[int, HostileClient] = {}
    for kind in [one for one in kinds for _ in range(one.count)]:
        sock = Client(port, kind.offer, WINDOW).sock
        sock.setblocking(False)
        clients[sock.fileno()] = HostileClient(kind, sock, kind.data, time.monotonic())
    poll, until = select.poll(), time.monotonic() + timeout
    for fd, each in clients.items():
        poll.register(fd, CLOSED | (select.POLLOUT if each.left else 0))
    waiting = set(clients)
    while waiting and time.monotonic() < until:
        for fd, events in poll.poll(200):
            each = clients[fd]
            if events & CLOSED:
                poll.unregister(fd)
                waiting.discard(fd)
                each.ended, each.code = time.monotonic(), close_code(each.sock)
                continue
            try:
                each.left = each.left[each.sock.send(each.left) :]
            except OSError:  # full, or closed, which the next poll reports
                continue
            if not each.left and each.kind.floods:
                each.left = each.kind.data
            elif not each.left:
                poll.modify(fd, CLOSED)
    for each in clients.values():
        each.sock.close()
    return list(clients.values())


def close_code(sock: socket.socket) -> int:
    """The code of the Close at the end of what was received; RESET if there is none."""
    data = b""
    try:
        while part := sock.recv(1 << 20):
            data = (data + part)[-200:]
    except OSError:
        pass
    at = data.rfind(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4]) if at >= 0 and len(data) >= at + 4 else RESET


def run(setting: Setting, report: Report) -> None:
    raise_descriptor_limit()
    ping, write = (20.0, 30.0) if setting.minutes >= 8 else (SHORT, SHORT)
    all_kinds = kinds(ping, write)
    options = (f"--ws-ping-interval={ping}", f"--ws-ping-timeout={ping}", f"--timeout-write={write}",
               f"--ws-max-size={MESSAGE}")  # fmt: skip
    with Pounce(setting, "sockets:echo", *options, workers=setting.workers or 1) as server:
        normal = NormalClient(Client(server.port))
        thread = threading.Thread(target=normal.run)
        thread.start()
        try:
            time.sleep(1.0)
            alone, before, highest = len(normal.times), server.usage(), 0
            end, number = time.monotonic() + setting.seconds, 0
            while not number or time.monotonic() < end:
                number += 1
                peak = Peak(server)
                peak.start()
                clients = attack(server.port, all_kinds, 2 * ping + write + LATE + 5.0)
                highest = max(highest, peak.stop())
                report.log(f"{number}: then {server.usage()}")
                for kind in all_kinds:
                    each = [one for one in clients if one.kind is kind]
                    late = [one for one in each if not one.ended or one.ended - one.began > kind.deadline + LATE]
                    slowest = max((one.ended - one.began for one in each if one.ended), default=0.0)
                    codes = Counter(one.code for one in each)
                    report.check(not late, f"{number}: {kind.name}: {len(each)}, ended too late: {len(late)}, "
                                           f"the last after {slowest:.1f} s")  # fmt: skip
                    if kind.code:  # a client that never reads does not receive its Close
                        report.check(set(codes) == {kind.code}, f"{number}: {kind.name}: closed with {dict(codes)}")
        finally:
            normal.stop_requested.set()
            thread.join(60)
        held = (highest - before.memory) / len(clients)
        report.check(held <= HELD, f"{held / 1024:.0f} KiB of memory for each of {len(clients)}, at most")
        report.check(not normal.wrong, f"the normal client: {len(normal.times)} echoed; {normal.wrong or 'all'}")
        report.log(f"p95 {percentile(normal.times[:alone], 95) * 1e3:.1f} ms alone, "
                   f"{percentile(normal.times[alone:], 95) * 1e3:.1f} ms with all")  # fmt: skip
        normal.client.sock.close()
        time.sleep(LINGER_TIMEOUT + 1)
        after = server.usage()
        report.check(after.fds < before.fds, f"descriptors {before.fds} -> {after.fds}, {after.memory / MIB:.1f} MiB")
        server.stop()
        report.check("Traceback" not in server.log, f"tracebacks in the log: {server.log.count('Traceback')}")


class Peak:
    """Measures the highest memory use of a server, on a thread of its own."""

    def __init__(self, server: Pounce) -> None:
        self._server = server
        self._highest = 0
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def start(self) -> None:
        self._thread.start()

    def _measure(self) -> None:
        while not self._stop_requested.wait(0.2):
            self._highest = max(self._highest, self._server.usage().memory)

    def stop(self) -> int:
        self._stop_requested.set()
        self._thread.join()
        return self._highest
