"""10,000 idle connections and 1,000 busy ones: the memory and CPU time that an idle connection costs, and whether its
next request is answered.

The idle connections come from several addresses of the loopback network, as one address has too few ports.
"""

import asyncio
import contextlib
import select
import socket
import time
from typing import Any

from stress.kit.actions import HARMLESS, fresh, get, request
from stress.kit.child_process import ChildProcess
from stress.kit.clients import MIN_RATE, Traffic
from stress.kit.errors import Unmeasured
from stress.kit.machine import Meter, raise_descriptor_limit
from stress.kit.pounce_server import Address, Pounce
from stress.kit.scenario import MIB, Report, Setting, percentile

TOOLS = ()

IDLE, BUSY = 10_000, 1000
SPARE = 600  # descriptors for everything else
EACH = 24 * 1024  # bytes of memory that an idle connection may cost
SOURCES = 5  # addresses of the clients
KEEP_ALIVE = 3600  # seconds
SETTLE = 1.0  # seconds


class Idle:
    """Connections that are idle after one request each."""

    def __init__(self, address: Address, count: int) -> None:
        self.sockets: list[socket.socket] = []
        for number in range(count):
            sock = socket.socket()
            self.sockets.append(sock)
            sock.settimeout(60)
            sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            sock.bind((f"127.0.1.{number % SOURCES + 1}", 0))
            sock.connect(address)
            self.ask(sock)

    def ask(self, sock: socket.socket) -> None:
        sock.sendall(request("/"))
        answer = b""
        while not answer.endswith(b"hello"):
            if not (data := sock.recv(4096)):
                raise Unmeasured(f"a connection ended without an answer: {answer!r}")
            answer += data

    def closed(self) -> int:
        poll = select.poll()
        for sock in self.sockets:
            poll.register(sock, select.POLLIN)
        return len(poll.poll(0))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def busy(address: Address, count: int, seconds: float) -> dict[str, Any]:
    """Clients that send without pause; returns the outcome of their requests."""
    actions = {action: weight for action, weight in HARMLESS.items() if action is not fresh} | {get: 60}
    tally = asyncio.run(Traffic(address, actions, count).run(seconds))
    return {
        "text": str(tally), "balances": tally.balances, "answered": tally.answered,
        "refused": tally.refused + tally.not_connected,
        "lost": [str(each) for each in tally.lost] + tally.wrong,
        "p50": percentile(tally.times, 50), "p95": percentile(tally.times, 95),
    }  # fmt: skip


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    descriptors = raise_descriptor_limit() - SPARE
    idle = min(IDLE if setting.minutes >= 0.3 else IDLE // 10, descriptors - BUSY)
    active = BUSY if setting.minutes >= 0.3 else BUSY // 10
    if idle + active > descriptors or idle < 100:
        raise Unmeasured(f"ulimit -Hn allows only {descriptors + SPARE} descriptors")
    with Pounce(setting, "busy:app", f"--timeout-keep-alive={KEEP_ALIVE}", workers=workers) as server:
        with contextlib.closing(Idle(server.address, 100)):  # for all that the server creates on first use
            server.object_counts()
        server.wait_idle()
        empty = server.usage()
        began = time.monotonic()
        connections = Idle(server.address, idle)
        with contextlib.closing(connections):
            took = time.monotonic() - began
            time.sleep(SETTLE)
            full, meter = server.usage(), Meter(server.pid, frozenset())
            time.sleep(max(2.0, min(30.0, setting.seconds / 6)))
            meter.stop()
            each = (full.memory - empty.memory) / idle
            report.log(f"{idle} connections in {took:.1f} s; before {empty}; with them {full}")
            report.check(each <= EACH, f"{each / 1024:.2f} KiB of memory for an idle connection")
            share = meter.used / meter.seconds
            report.check(share < 0.02, f"CPU while all are idle: {share:.2%} of one, over {meter.seconds:.0f} s")
            seconds = max(3.0, setting.seconds * 0.6)
            with ChildProcess(busy, server.address, active, seconds) as clients:
                time.sleep(seconds / 2)
                both = server.usage()
                seen = clients.result(seconds + 200)
            report.log(f"{active} busy beside them: {seen['text']}")
            report.log(f"with both {both}; p50 {seen['p50'] * 1e3:.0f} ms, p95 {seen['p95'] * 1e3:.0f} ms")
            report.check(seen["balances"] and not seen["lost"], f"busy requests lost: {seen['lost'][:3] or 0}")
            report.check(
                seen["answered"] >= max(MIN_RATE * seconds, active) and not seen["refused"],
                f"{seen['answered'] / seconds:.0f} busy responses/s; refused: {seen['refused']}",
            )
            report.check(not connections.closed(), f"idle connections closed: {connections.closed()}")
            for sock in connections.sockets:
                connections.ask(sock)
            report.check(True, f"the next request is answered on each of the {idle}")
        server.wait_idle()
        after = server.usage()
        report.check(
            after.fds <= empty.fds, f"descriptors {empty.fds} -> {after.fds}; then {after.memory / MIB:.1f} MiB"
        )
        server.stop()
