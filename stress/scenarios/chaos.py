"""One fault after the other under load; no request may be lost.

    calm        no fault, for comparison
    kill        kill -9 of a worker process (with the GIL; a thread cannot be killed)
    crash       an exception leaves a worker's loop
    app         the application fails: before the start, between parts, after the end, with every kind of exception
    reset       many connections that are reset at any point
    emfile      no descriptor is left to accept with
    half-close  clients that close their sending side at once, some within a head
    term        SIGTERM while responses are streamed, and a new server at the same port

Requests must be answered in every phase, also after the fault: a server that refuses all of them loses none. No request
here is refused with 503, and only a server that is down refuses a connection.

Two losses are accepted: responses that the application itself breaks off, and requests that a killed process had
received. These are requests on a connection on which that process has answered before, or on one that was open when it
was killed and on which no process had answered yet.
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
from stress.kit.clients import (
    ANSWER_TIMEOUT,
    MIN_RATE,
    Action,
    Connection,
    ConnectionEnded,
    LostRequest,
    Tally,
    Traffic,
)
from stress.kit.machine import cpu_seconds
from stress.kit.pounce_server import Pounce
from stress.kit.scenario import THREADS, Report, Setting

TOOLS = ()

CLIENTS = 24
FLOOD = 200  # connections for which there is no descriptor
SPARE = 20  # descriptors that are left
FAULTS = {  # fault of the application -> status that its client receives; None: an incomplete response
    "before": 500, "nothing": 500, "memory": 500, "deep": 500, "exit": 500, "interrupt": 500, "between": None,
    "after": 200,
}  # fmt: skip
STEADY: dict[Action, int] = {get: 30, post: 15, stream: 10, pipeline: 10, helper: 5}  # need no new descriptor


@dataclass
class Chaos:
    """The phases, on one server."""

    server: Pounce
    report: Report
    seconds: float  # for each phase
    seed: int = 0
    killed: dict[int, float] = field(default_factory=dict)

    def accepted(self, lost: LostRequest) -> bool:
        """Had a process received it that was then killed?"""
        if lost.worker is not None:
            return lost.worker in self.killed and lost.seen >= self.killed[lost.worker]
        return any(lost.opened <= when <= lost.seen for when in self.killed.values())

    async def under_load(
        self, name: str, actions: dict[Action, int], fault: Callable[[], Awaitable[object]], *, down: bool = False
    ) -> Tally:  # fmt: skip
        """Causes the fault while clients send requests, and checks their outcome. `down`: it stops the server."""
        self.seed += 1
        began, traffic = time.monotonic(), Traffic(self.server.address, actions, CLIENTS, seed=self.seed)
        tally = traffic.tally
        traffic.start()
        try:
            await asyncio.sleep(min(1.0, self.seconds / 4))
            await fault()
            before = tally.answered
            await asyncio.sleep(max(0.5, began + self.seconds - time.monotonic()))
            await self.until(f"{name}: {CLIENTS} responses after the fault", lambda: tally.answered - before >= CLIENTS)
        finally:
            await traffic.stop()
        took = time.monotonic() - began
        lost = [each for each in tally.lost if not self.accepted(each)]
        self.report.log(f"{name}: {tally}")
        self.report.check(tally.balances, f"{name}: every request is accounted for")
        accepted = f", {len(tally.lost)} by a killed process" if tally.lost and not lost else ""
        self.report.check(
            not lost, f"{name}: requests lost: {len(lost)} {[str(each) for each in lost[:3]] or ''}{accepted}"
        )
        self.report.check(not tally.wrong, f"{name}: wrong responses: {len(tally.wrong)} {tally.wrong[:3] or ''}")
        self.report.check(tally.answered >= MIN_RATE * took, f"{name}: {tally.answered / took:.0f} responses/s")
        self.report.check(not tally.refused, f"{name}: requests refused: {tally.refused}")
        self.report.check(down or not tally.not_connected, f"{name}: failed to connect: {tally.not_connected}")
        return tally

    async def until(self, what: str, happened: Callable[[], bool], timeout: float = 60.0) -> None:
        end = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > end:
                self.report.check(False, f"{what} within {timeout:.0f} s")
                return
            await asyncio.sleep(0.05)

    # The faults

    async def calm(self) -> None:
        async def nothing() -> None: ...

        await self.under_load("calm", HARMLESS, nothing)

    async def kill(self) -> None:
        if len(pids := self.server.worker_pids()) < 2:
            self.report.log("kill: the workers are threads, which cannot be killed")
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
        # Counted by connection: a pipeline may lose several requests.
        broken = Counter(each.opened for each in tally.lost)
        self.report.check(len(broken) <= CLIENTS * len(self.killed),
                          f"kill: {len(self.killed)} processes killed, {len(broken)} connections broken")  # fmt: skip

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
            not wrong, f"app: {seen.total()} faults of {len(FAULTS)} kinds answered correctly {wrong or ''}"
        )

    async def _status(self, path: str) -> int | None:
        """The status of the response; None: it is incomplete, -1: there is none in time."""
        connection = await Connection.open(self.server.address)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.send(request(path))
                return (await connection.answer()).status
        except (ConnectionEnded, OSError):
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

        # A server of one process raises the signal again after its shutdown.
        await self.under_load("term", HARMLESS | {ticking: 30}, term, down=True)
        expected = {-signal.SIGTERM, 128 + signal.SIGTERM, 0}
        self.report.check(set(ended) <= expected, f"term: {len(ended)} servers ended with codes {sorted(set(ended))}")

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
        self.report.log(f"reset: {opened} connections reset")

    async def emfile(self) -> None:
        answers: list[asyncio.Task[int | None]] = []
        # Measured without other requests: a server that spins on a socket from which it cannot accept uses CPU time.
        used = seconds = 0.0

        async def flood() -> None:
            nonlocal used, seconds
            self.server.limit_descriptors(SPARE)
            try:
                answers.extend(asyncio.create_task(self._status("/sleep?2")) for _ in range(FLOOD))
                await self.until("it is logged", lambda: "Cannot accept connections" in self.server.log)
                await asyncio.sleep(min(2.0, self.seconds / 4))
            finally:
                self.server.limit_descriptors(None)

        async def spin() -> None:
            nonlocal used, seconds
            self.server.limit_descriptors(SPARE)
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
        self.report.check(set(statuses) <= {200, 503}, f"emfile: waiting connections are answered: {dict(statuses)}")
        share = used / seconds
        self.report.check(share < 0.3, f"emfile: without descriptors {share:.1%} of a CPU is used")

    async def half(self) -> None:
        hanging: list[str] = []

        async def unfinished() -> None:
            for piece in (b"", b"GET ", b"GET / HTTP/1.1\r\nHost: a\r\n", request("/echo", b"x" * 100)[:-50]):
                for _ in range(10):
                    connection = await Connection.open(self.server.address)
                    await connection.send(piece)
                    connection.sock.shutdown(1)
                    try:
                        async with asyncio.timeout(ANSWER_TIMEOUT):
                            while True:
                                await connection.more()
                    except (ConnectionEnded, OSError):
                        pass
                    except TimeoutError:
                        hanging.append(repr(piece))
                    connection.close()

        await self.under_load("half-close", {half_close: 20, get: 5, pipeline: 5}, unfinished)
        self.report.check(not hanging, f"half-close: connections left open after an incomplete request: {hanging or 0}")


def run(setting: Setting, report: Report) -> None:
    workers = setting.workers or 2
    with Pounce(setting, workers=workers) as server:
        chaos = Chaos(server, report, setting.seconds / 8)
        server.wait_idle()
        before = server.usage()
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
        counts, after = server.wait_idle(), server.usage()
        pids = len(server.worker_pids())
        left = counts["HTTP1Connection"] - pids + counts["WebSocketConnection"]
        report.check(left <= 0, f"connections at the end: {left}")
        # A thread pool, a crash and a restart may each add a thread, never a descriptor.
        report.check(after.fds <= before.fds + 2 * pids, f"before: {before}; after: {after}")
        report.check(server.stop() in (0, -signal.SIGTERM), f"ended with {server.process.returncode}")
        bad = [word for word in ("Fatal Python error", "Segmentation fault") if word in server.log]
        report.check(not bad, f"crashes of the interpreter: {bad or 0}")
        report.log(f"the workers were {'threads' if THREADS or workers == 1 else 'processes'}")
