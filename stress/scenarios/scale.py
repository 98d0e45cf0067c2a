"""Ten thousand connections that ask for nothing, and a thousand that ask all the time: what does an idle one cost, in
memory and in CPU, and does it still answer when it asks again?

The idle ones come from several addresses of the loopback network, as one has only so many ports.
"""

import asyncio
import contextlib
import select
import socket
import time
from typing import Any

from stress.kit.actions import HARMLESS, fresh, get, request
from stress.kit.child_process import Apart
from stress.kit.clients import LEAST, Traffic
from stress.kit.errors import Unmeasured
from stress.kit.machine import Meter, raise_descriptor_limit
from stress.kit.pounce_server import Address, Pounce
from stress.kit.scenario import MIB, Report, Setting, percentile

TOOLS = ()

IDLE, BUSY = 10_000, 1000
SPARE = 600  # descriptors for everything else
EACH = 24 * 1024  # bytes of memory an idle connection may cost
SOURCES = 5  # addresses to come from
KEEP_ALIVE = 3600  # seconds
SETTLE = 1.0  # seconds


class Idle:
    """Connections that have each been answered once."""

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

    def gone(self) -> int:
        poll = select.poll()
        for sock in self.sockets:
            poll.register(sock, select.POLLIN)
        return len(poll.poll(0))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def busy(address: Address, count: int, seconds: float) -> dict[str, Any]:
    """A thousand clients that ask; what became of it."""
    deeds = {deed: weight for deed, weight in HARMLESS.items() if deed is not fresh} | {get: 60}
    tally = asyncio.run(Traffic(address, deeds, count).run(seconds))
    return {
        "text": str(tally), "balances": tally.balances, "answered": tally.answered,
        "away": tally.refused + tally.not_connected,
        "lost": [str(cut) for cut in tally.cuts] + tally.wrong,
        "p50": percentile(tally.times, 50), "p95": percentile(tally.times, 95),
    }  # fmt: skip


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    most = raise_descriptor_limit() - SPARE
    idle = min(IDLE if setting.minutes >= 0.3 else IDLE // 10, most - BUSY)
    active = BUSY if setting.minutes >= 0.3 else BUSY // 10
    if idle + active > most or idle < 100:
        raise Unmeasured(f"ulimit -Hn allows only {most + SPARE} descriptors")
    with Pounce(setting, "busy:app", f"--timeout-keep-alive={KEEP_ALIVE}", workers=workers) as server:
        with contextlib.closing(Idle(server.address, 100)):  # what is made when it is first needed
            server.census()
        server.quiet()
        empty = server.vitals()
        began = time.monotonic()
        connections = Idle(server.address, idle)
        with contextlib.closing(connections):
            took = time.monotonic() - began
            time.sleep(SETTLE)
            full, meter = server.vitals(), Meter(server.pid, frozenset())
            time.sleep(max(2.0, min(30.0, setting.seconds / 6)))
            meter.stop()
            each = (full.memory - empty.memory) / idle
            report.say(f"{idle} connections in {took:.1f} s; before {empty}; with them {full}")
            report.check(each <= EACH, f"{each / 1024:.2f} KiB of memory for an idle connection")
            share = meter.used / meter.seconds
            report.check(share < 0.02, f"CPU while all are idle: {share:.2%} of one, over {meter.seconds:.0f} s")
            seconds = max(3.0, setting.seconds * 0.6)
            with Apart(busy, server.address, active, seconds) as clients:
                time.sleep(seconds / 2)
                both = server.vitals()
                seen = clients.result(seconds + 200)
            report.say(f"{active} busy beside them: {seen['text']}")
            report.say(f"with both {both}; p50 {seen['p50'] * 1e3:.0f} ms, p95 {seen['p95'] * 1e3:.0f} ms")
            report.check(seen["balances"] and not seen["lost"], f"busy requests lost: {seen['lost'][:3] or 0}")
            report.check(
                seen["answered"] >= max(LEAST * seconds, active) and not seen["away"],
                f"{seen['answered'] / seconds:.0f} busy answers a second; refused or turned away: {seen['away']}",
            )
            report.check(not connections.gone(), f"idle connections gone: {connections.gone()}")
            for sock in connections.sockets:
                connections.ask(sock)
            report.check(True, f"each of the {idle} has answered again")
        server.quiet()
        after = server.vitals()
        report.check(
            after.fds <= empty.fds, f"descriptors {empty.fds} -> {after.fds}; then {after.memory / MIB:.1f} MiB"
        )
        server.stop()
