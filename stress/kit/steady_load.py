"""A server or its workers are replaced again and again under load: directly first, then behind HAProxy.

The load is wrk with 64 connections, 50 WebSockets that are open until the server closes them, and 20 clients that
upload slowly. A WebSocket that ends with 1012 (service restart) is opened again at once; that this works is checked as
for any request. Before each tenth replacement one is tried that must fail, because the application cannot be loaded:
the old workers must go on.

The application is `apps/counted.py`, which counts for each worker. For what was begun and answered, the sums of all
workers must be those of the clients. wrk abandons its last requests, at most one for each connection.
"""

import asyncio
import contextlib
import json
import os
import signal
import statistics
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from stress.kit.actions import ACCEPTED, CLOSE, HANDSHAKE, NORMAL, PING, PONG, RESTART, TEXT, frame, request
from stress.kit.clients import ANSWER_TIMEOUT, Client, Connection, Tally, Traffic
from stress.kit.load import BackgroundWrk
from stress.kit.machine import tree
from stress.kit.pounce_server import Address, Pounce, Usage, get
from stress.kit.proxy import free_port, haproxy
from stress.kit.scenario import MIB, Report, Setting

CONNECTIONS, WEBSOCKETS, UPLOADS = 64, 50, 20
PACE = 0.02  # seconds between the pieces of an upload
MESSAGE_EVERY = 0.1  # seconds, for each WebSocket
READY = 60.0  # seconds that new workers may take until they serve, on a busy machine
VAIN_EVERY = 10
SETTLE = 20.0  # seconds in which threads and descriptors of old workers have to be gone; idle connections have 5
LAZY = 1  # descriptors of a process that has served: libffi keeps its file open from the first use of ctypes on
ENDED = (0, -signal.SIGTERM)  # exit codes after SIGTERM
ERRORS = ("ERROR", "CRITICAL", "Traceback")  # beginnings of lines in the log


async def upload(client: Client) -> None:
    content = client.random.randbytes(client.random.choice((100_000, 400_000, 1_000_000)))
    chunks = client.random.choice((0, 7))
    await client.ask("upload", [(request("/upload", content, chunks=chunks), b"%d %08x" % (
        len(content), zlib.crc32(content)))], pace=PACE)  # fmt: skip


async def websocket(client: Client) -> None:
    """A WebSocket that is open until the server closes it or the client stops."""
    tally, connection = client.tally, await client.connect()
    try:
        with client.counting("websocket", 1, connection) as outstanding:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.send(HANDSHAKE + b"\r\n")
                answer = await connection.answer()
            if answer.status == 503:
                tally.refused += 1
            elif answer.status != 101 or answer.fields.get(b"sec-websocket-accept") != ACCEPTED:
                tally.wrong.append(f"websocket: the handshake is answered with {answer}")
            else:
                tally.kinds["websocket accepted"] += 1
                code = await _talk(client, connection)
                if code == RESTART:
                    tally.retriable += 1
                elif code == NORMAL and client.stopping:
                    tally.answered += 1
                else:
                    tally.wrong.append(f"websocket: closed with {code!r}")
            outstanding.left = 0
    finally:
        connection.close()


async def _talk(client: Client, connection: Connection) -> bytes:
    """Sends messages and checks their echo until the server sends Close; returns its payload. Raises ConnectionEnded
    where the connection ends without, and ValueError for another frame than expected."""
    rng, expected = client.random, 0
    sending = asyncio.create_task(_send_messages(client, connection))
    try:
        while True:
            # A server that answers nothing for so long is as good as gone: messages are sent all the time.
            async with asyncio.timeout(ANSWER_TIMEOUT):
                first, payload = await connection.frame()
            if first == PING:
                await connection.push(frame(rng, PONG, payload))
            elif first == CLOSE:
                if not client.stopping:
                    await connection.push(frame(rng, CLOSE, payload))
                return payload
            elif (first, payload) == (TEXT, _message(expected)):
                expected += 1
                client.tally.kinds["message echoed"] += 1
            else:
                raise ValueError(f"frame {first:#x} {payload[:40]!r} instead of message {expected}")
    finally:
        sending.cancel()


async def _send_messages(client: Client, connection: Connection) -> None:
    number = 0
    while not client.stopping:
        await connection.push(frame(client.random, TEXT, _message(number)))
        number += 1
        await asyncio.sleep(MESSAGE_EVERY * (0.5 + client.random.random()))
    await connection.push(frame(client.random, CLOSE, NORMAL))


def _message(number: int) -> bytes:
    return b"message %d %s" % (number, b"." * 100)


class SteadyLoad:
    """The load on one address, and what becomes of it."""

    def __init__(self, address: Address, folder: Path) -> None:
        """`folder`: where the workers write their counts, $STRESS_COUNTS."""
        self.address = address
        self.folder = folder
        self.tally = Tally()
        self._wrk = BackgroundWrk(address, CONNECTIONS)
        self._traffics = (
            Traffic(address, {websocket: 1}, WEBSOCKETS, self.tally, seed=1),
            Traffic(address, {upload: 1}, UPLOADS, self.tally, seed=2),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self._wrk:
            for traffic in self._traffics:
                traffic.start()
            try:
                yield
            finally:
                for traffic in self._traffics:
                    await traffic.stop()
                await asyncio.to_thread(self._wrk.stop)

    def workers_loaded_after(self, when: int) -> int:
        """The number of workers that have started with an application that was loaded after `when`, in nanoseconds."""
        return sum(int(path.name.split("-")[0]) > when for path in self.folder.iterdir())

    def check(self, report: Report, name: str) -> None:
        """What the clients have seen, and, after the server has ended, what the workers have counted."""
        tally, seen = self.tally, self.tally.kinds
        report.log(f"{name}: {tally}")
        wrk = self._wrk
        report.log(f"{name}: wrk {wrk.requests} requests, longest {wrk.longest_ms:.0f} ms; {seen['upload']} uploads, "
                   f"{seen['websocket accepted']} WebSockets, {seen['message echoed']} messages")  # fmt: skip
        report.check(not wrk.errors, f"{name}: wrk's errors: {wrk.errors or 'none'}")
        report.check(wrk.requests > 0 and seen["upload"] >= UPLOADS and seen["websocket accepted"] >= WEBSOCKETS,
                     f"{name}: every kind of client was served")  # fmt: skip
        report.check(tally.balances, f"{name}: every request is accounted for")
        report.check(not tally.failed, f"{name}: failed requests: {tally.failed} of {tally.sent} "
                                       f"{tally.failures or ''}")  # fmt: skip
        counts, started, ended = self._sums()
        report.check(started == ended, f"{name}: {ended} of {started} workers have shut their application down")
        for kind, count in ("upload", seen["upload"]), ("websocket", seen["websocket accepted"]):
            report.check(counts[f"{kind} began"] == counts[f"{kind} ended"] == count,
                         f"{name}: {kind}: {counts[f'{kind} began']} began, {counts[f'{kind} ended']} ended, "
                         f"the clients count {count}")  # fmt: skip
        began, done = counts["get began"], counts["get ended"]
        report.check(wrk.requests <= done <= began <= wrk.requests + CONNECTIONS,
                     f"{name}: get: {began} began, {done} ended, wrk counts {wrk.requests}")  # fmt: skip
        report.check(counts["message received"] >= seen["message echoed"],
                     f"{name}: messages: {counts['message received']} received")  # fmt: skip

    def _sums(self) -> tuple[Counter[str], int, int]:
        """The counts of all workers, how many have started, and how many have written their counts."""
        total, texts = Counter[str](), [path.read_text() for path in self.folder.iterdir()]
        for text in texts:
            total.update(json.loads(text or "{}"))
        return total, len(texts), sum(bool(text) for text in texts)


async def until(happened: Callable[[], bool], timeout: float) -> float:
    """Seconds until it has happened; infinity if it has not within `timeout` seconds."""
    began = time.monotonic()
    while not await asyncio.to_thread(happened):
        if time.monotonic() - began > timeout:
            return float("inf")
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@dataclass
class Replacement:
    """A server that is replaced under load, or whose workers are."""

    server: Pounce
    load: SteadyLoad
    workers: int
    number: signal.Signals
    """What makes the server replace them."""
    vain: list[str] = field(default_factory=list)
    """What it has logged when it could not."""

    async def usage(self) -> Usage:
        """What the server uses when that has not changed for a second: old workers have ended."""
        usage, since, end = self.server.usage(), time.monotonic(), time.monotonic() + SETTLE
        while time.monotonic() < min(end, since + 1):
            await asyncio.sleep(0.1)
            now = self.server.usage()
            if (now.fds, now.threads) != (usage.fds, usage.threads):
                usage, since = now, time.monotonic()
        return usage

    async def in_vain(self) -> bool:
        """Sends the signal while the application cannot be loaded. Does the server notice, and go on as before?"""
        server, broken = self.server, self.load.folder.with_suffix(".broken")
        before, processes, when = server.log, len(tree(server.pid)), time.monotonic_ns()
        broken.touch()
        os.kill(server.pid, self.number)
        noticed = await until(lambda: "broken, as requested" in server.log[len(before) :], READY)
        noticed += await until(lambda: len(tree(server.pid)) <= processes, READY)
        broken.unlink()
        self.vain.append(server.log[len(before) :])
        return noticed < READY and int(await asyncio.to_thread(get, server.address, "/loaded")) < when

    def unexpected_errors(self) -> list[str]:
        log = self.server.log
        for part in self.vain:
            log = log.replace(part, "")
        return [line for line in log.splitlines() if line.startswith(ERRORS)]


type Replace = Callable[[Replacement], Awaitable[float]]
"""Replaces the workers once. Returns the seconds until the new ones serve alone; infinity if they do not."""


def replaced_under_load(
    setting: Setting, report: Report, number: signal.Signals, replace: Replace, count: int
) -> None:  # fmt: skip
    """The whole scenario, `count` times directly and `count` times through the proxy."""
    workers = setting.workers or 2
    for name in ("direct", "HAProxy"):
        folder = setting.folder / name
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Pounce(setting, "counted:app", "--log-level=info", workers=workers,
                                                port=free_port(), env={"STRESS_COUNTS": str(folder)}))  # fmt: skip
            proxy = None
            if name == "HAProxy":
                proxy = stack.enter_context(haproxy(setting.folder, server.port, check="/health"))
            load = SteadyLoad(proxy.address if proxy else server.address, folder)
            replacement = Replacement(server, load, workers, number)
            asyncio.run(_replaced(replacement, replace, count, report, name))
            if proxy:
                proxy.report(report)
            code = server.stop()
            report.check(code in ENDED, f"{name}: the server ended with {code}")
            load.check(report, name)
            errors = replacement.unexpected_errors()
            report.check(not errors, f"{name}: errors in the log: {len(errors)} {errors[:3] or ''}")


async def _replaced(one: Replacement, replace: Replace, count: int, report: Report, name: str) -> None:
    await replace(one)  # what is allocated once for all of them is not growth
    before, times, went_on = await one.usage(), list[float](), list[bool]()
    most = before.fds + LAZY * len(one.server.worker_pids())
    async with one.load.running():
        await asyncio.sleep(1)
        while len(times) < count and float("inf") not in times:
            if len(times) % VAIN_EVERY == 0:
                went_on.append(await one.in_vain())
                report.log(f"{name}: {len(times)} times, {one.server.usage()}")
            times.append(await replace(one))
        await asyncio.sleep(1)
    done = [each for each in times if each != float("inf")]
    report.check(len(done) == count, f"{name}: replaced {len(done)} of {count} times, after "
                 f"{statistics.median(done or [0]):.2f} s (median), {max(done, default=0):.2f} s at most")  # fmt: skip
    report.check(all(went_on), f"{name}: went on {sum(went_on)} of {len(went_on)} times when the application could not "
                 "be loaded")  # fmt: skip
    after, end = one.server.usage(), time.monotonic() + SETTLE
    while (after.threads > before.threads or after.fds > most) and time.monotonic() < end:
        await asyncio.sleep(0.1)
        after = one.server.usage()
    report.log(
        f"{name}: memory {before.memory / MIB:.1f} MiB after the first time, {after.memory / MIB:.1f} at the end"
    )
    report.check(after.threads <= before.threads and after.fds <= most,
                 f"{name}: threads {before.threads} -> {after.threads}, "
                 f"descriptors {before.fds} -> {after.fds}")  # fmt: skip
