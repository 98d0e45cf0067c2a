"""One fault after the other under load, and every request accounted for.

    calm        none, to compare with
    kill        kill -9 of a worker process (with the GIL; a thread cannot be killed)
    crash       an exception leaves a worker's loop
    app         the application fails: before the start, between parts, after the end, by every kind of exception
    term        SIGTERM in the middle of streams, and a new server at the same port
    reset       storms of connections that are reset at any point
    emfile      no descriptor is left to accept with
    half-close  clients that close their side at once, some in the middle of a head

In every phase somebody must be answered, also behind the fault: a server that turns everybody away keeps its books in
order too. Nothing here asks for a 503, and only a server that is down turns a connection away.

Lawfully unanswered is only what was in the hands of a killed process: a request on a connection that this process
has answered on before, or on a connection that nobody had answered on yet and that was open when it was killed. And
what the application itself breaks off in the middle.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stress.kit.actions import HARMLESS, get, half_close, helper, pipeline, post, request, stream, ticking
from stress.kit.clients import ANSWER, LEAST, Broken, Connection, Cut, Deed, Tally, Traffic
from stress.kit.machine import cpu_seconds
from stress.kit.pounce_server import Pounce
from stress.kit.scenario import THREADS, Report, Setting

TOOLS = ()

CLIENTS = 24
FLOOD = 200  # connections that find no descriptor
ROOM = 20  # descriptors that are left
FAULTS = {  # what the application does -> what its client must see; None: the answer is cut off
    "before": 500, "nothing": 500, "memory": 500, "deep": 500, "exit": 500, "interrupt": 500, "between": None,
    "after": 200,
}  # fmt: skip
STEADY: dict[Deed, int] = {get: 30, post: 15, stream: 10, pipeline: 10, helper: 5}  # ask for no new descriptor


@dataclass
class Chaos:
    server: Pounce
    report: Report
    seconds: float  # for each phase
    seed: int = 0
    killed: dict[int, float] = field(default_factory=dict)

    def lawful(self, cut: Cut) -> bool:
        """Was it in the hands of a process when that was killed?"""
        if cut.worker is not None:
            return cut.worker in self.killed and cut.seen >= self.killed[cut.worker]
        return any(cut.opened <= when <= cut.seen for when in self.killed.values())

    async def under_load(
        self, name: str, deeds: dict[Deed, int], fault: Callable[[], Awaitable[object]], *, down: bool = False
    ) -> Tally:  # fmt: skip
        """Does the fault while clients ask, and judges what they have got. `down`: there is no server for a while."""
        self.seed += 1
        began, traffic = time.monotonic(), Traffic(self.server.address, deeds, CLIENTS, seed=self.seed)
        tally = traffic.tally
        traffic.start()
        try:
            await asyncio.sleep(min(1.0, self.seconds / 4))
            await fault()
            behind = tally.answered
            await asyncio.sleep(max(0.5, began + self.seconds - time.monotonic()))
            await self.until(f"{name}: {CLIENTS} answers behind the fault", lambda: tally.answered - behind >= CLIENTS)
        finally:
            await traffic.stop()
        took = time.monotonic() - began
        lost = [cut for cut in tally.cuts if not self.lawful(cut)]
        self.report.say(f"{name}: {tally}")
        self.report.check(tally.balances, f"{name}: every request is accounted for")
        excused = f", {len(tally.cuts)} in the hands of a killed process" if tally.cuts and not lost else ""
        self.report.check(
            not lost, f"{name}: requests lost: {len(lost)} {[str(cut) for cut in lost[:3]] or ''}{excused}"
        )
        self.report.check(not tally.wrong, f"{name}: answers wrong: {len(tally.wrong)} {tally.wrong[:3] or ''}")
        self.report.check(tally.answered >= LEAST * took, f"{name}: {tally.answered / took:.0f} answers a second")
        self.report.check(not tally.refused, f"{name}: requests refused: {tally.refused}")
        self.report.check(down or not tally.not_connected, f"{name}: connections turned away: {tally.not_connected}")
        return tally

    async def until(self, what: str, happened: Callable[[], bool], patience: float = 60.0) -> None:
        end = time.monotonic() + patience
        while not happened():
            if time.monotonic() > end:
                self.report.check(False, f"{what} within {patience:.0f} s")
                return
            await asyncio.sleep(0.05)

    # The faults

    async def calm(self) -> None:
        async def nothing() -> None: ...

        await self.under_load("calm", HARMLESS, nothing)

    async def kill(self) -> None:
        if len(pids := self.server.worker_pids()) < 2:
            self.report.say("kill: the workers are threads, which cannot be killed")
            return

        async def kill() -> None:
            for _ in range(2):
                pid = random.choice(pids)
                died = self.server.log.count(") died.")
                self.killed[pid] = time.monotonic()
                os.kill(pid, signal.SIGKILL)
                await self.until("a killed worker is noticed", lambda: self.server.log.count(") died.") > died)  # noqa: B023
                await self.until("it is replaced", lambda: len(self.server.worker_pids()) == len(pids))
                await asyncio.sleep(self.seconds / 3)
                pids[:] = self.server.worker_pids()

        tally = await self.under_load("kill", HARMLESS, kill)
        # Pipelines apart, a connection has one request at a time.
        apart = Counter(cut.opened for cut in tally.cuts)
        self.report.check(len(apart) <= CLIENTS * len(self.killed),
                          f"kill: {len(self.killed)} processes killed, {len(apart)} connections broken")  # fmt: skip

    async def crash(self) -> None:
        async def crash() -> None:
            for _ in range(3):
                failed = self.server.log.count("is being replaced")
                connection = await Connection.open(self.server.address)
                await connection.send(request("/fault?loop"))
                await connection.answer()
                connection.close()
                await self.until(
                    "a crash is noticed",
                    lambda: self.server.log.count("is being replaced") > failed,  # noqa: B023
                )
                await asyncio.sleep(self.seconds / 4)

        await self.under_load("crash", HARMLESS, crash)

    async def app(self) -> None:
        seen: Counter[tuple[str, int | None]] = Counter()

        async def fail() -> None:
            end = time.monotonic() + self.seconds / 2
            while time.monotonic() < end:
                for fault in FAULTS:
                    seen[fault, await self._status(f"/fault?{fault}")] += 1
                await asyncio.sleep(0.02)

        await self.under_load("app", HARMLESS, fail)
        wrong = [f"{fault} gave {status}" for fault, status in seen if FAULTS[fault] != status]
        self.report.check(
            not wrong, f"app: {seen.total()} faults of {len(FAULTS)} kinds seen as they are {wrong or ''}"
        )

    async def _status(self, path: str) -> int | None:
        """None: cut off."""
        connection = await Connection.open(self.server.address)
        try:
            async with asyncio.timeout(ANSWER):
                await connection.send(request(path))
                return (await connection.answer()).status
        except (Broken, OSError):
            return None
        except TimeoutError:
            return -1
        finally:
            connection.close()

    async def term(self) -> None:
        ended: list[int] = []

        async def term() -> None:
            end = time.monotonic() + self.seconds / 2
            while not ended or time.monotonic() < end:
                ended.append(await asyncio.to_thread(self.server.stop))
                await asyncio.to_thread(self.server.start)
                await asyncio.sleep(min(1.0, self.seconds / 4))

        # One process raises the signal again when it has ended in order.
        await self.under_load("term", HARMLESS | {ticking: 30}, term, down=True)
        good = {-signal.SIGTERM, 128 + signal.SIGTERM, 0}
        self.report.check(set(ended) <= good, f"term: {len(ended)} servers ended with codes {sorted(set(ended))}")

    async def reset(self) -> None:
        opened = 0

        async def storm() -> None:
            nonlocal opened
            end = time.monotonic() + self.seconds / 2
            whole = request("/big?200000") * 3
            while time.monotonic() < end:
                batch = []
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        batch.append(await Connection.open(self.server.address))
                for number, connection in enumerate(batch):
                    with contextlib.suppress(OSError):
                        connection.sock.send(whole[: random.choice((0, 1, 20, len(whole)))] or b"")
                    if number % 3 == 0:
                        await asyncio.sleep(0)
                    connection.close(reset=True)
                opened += len(batch)
                await asyncio.sleep(0.02)

        await self.under_load("reset", HARMLESS, storm)
        self.report.say(f"reset: {opened} connections reset")

    async def emfile(self) -> None:
        answers: list[asyncio.Task[int | None]] = []
        # While nobody asks: a server that spins on a socket that it cannot accept from shows in its CPU time.
        used = seconds = 0.0

        async def flood() -> None:
            nonlocal used, seconds
            self.server.limit_descriptors(ROOM)
            try:
                answers.extend(asyncio.create_task(self._status("/sleep?2")) for _ in range(FLOOD))
                await self.until("no room is noticed", lambda: "Cannot accept connections" in self.server.log)
                await asyncio.sleep(min(2.0, self.seconds / 4))
            finally:
                self.server.limit_descriptors(None)

        async def spin() -> None:
            nonlocal used, seconds
            self.server.limit_descriptors(ROOM)
            try:
                waiting = [asyncio.create_task(self._status("/sleep?2")) for _ in range(FLOOD)]
                answers.extend(waiting)
                await asyncio.sleep(0.5)
                used, seconds = cpu_seconds(self.server.pid), time.monotonic()
                await asyncio.sleep(1)
                used, seconds = cpu_seconds(self.server.pid) - used, time.monotonic() - seconds
            finally:
                self.server.limit_descriptors(None)

        await self.under_load("emfile", STEADY, flood)
        await asyncio.gather(*answers)
        await spin()
        statuses = Counter(await asyncio.gather(*answers))
        self.report.check(set(statuses) <= {200, 503}, f"emfile: who had to wait was answered: {dict(statuses)}")
        share = used / seconds
        self.report.check(share < 0.3, f"emfile: while nobody could be accepted, {share:.1%} of a CPU was used")

    async def half(self) -> None:
        hanging: list[str] = []

        async def unfinished() -> None:
            for piece in (b"", b"GET ", b"GET / HTTP/1.1\r\nHost: a\r\n", request("/echo", b"x" * 100)[:-50]):
                for _ in range(10):
                    connection = await Connection.open(self.server.address)
                    await connection.send(piece)
                    connection.sock.shutdown(1)
                    try:
                        async with asyncio.timeout(ANSWER):
                            while True:
                                await connection.more()
                    except (Broken, OSError):
                        pass
                    except TimeoutError:
                        hanging.append(repr(piece))
                    connection.close()

        await self.under_load("half-close", {half_close: 20, get: 5, pipeline: 5}, unfinished)
        self.report.check(not hanging, f"half-close: connections left open behind half a request: {hanging or 0}")


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    with Pounce(setting, workers=workers) as server:
        chaos = Chaos(server, report, setting.seconds / 8)
        server.quiet()
        before = server.vitals()
        for phase in (
            chaos.calm,
            chaos.crash,
            chaos.app,
            chaos.reset,
            chaos.emfile,
            chaos.half,
            chaos.kill,
            chaos.term,
        ):
            asyncio.run(phase())
        census, after = server.quiet(), server.vitals()
        pids = len(server.worker_pids())
        left = census["HTTP1Connection"] - pids + census["WebSocketConnection"]
        report.check(left <= 0, f"connections at the end: {left}")
        # Each helper thread pool, crash and restart may cost a thread, never a descriptor.
        report.check(after.fds <= before.fds + 2 * pids, f"before: {before}; after: {after}")
        report.check(server.stop() in (0, -signal.SIGTERM), f"ended with {server.process.returncode}")
        bad = [word for word in ("Fatal Python error", "Segmentation fault") if word in server.log]
        report.check(not bad, f"crashes of the interpreter: {bad or 0}")
        report.say(f"the workers were {'threads' if THREADS or workers == 1 else 'processes'}")
