"""Many worker threads in one process that gives none of them time to finish anything: the switch interval is a
microsecond. What each worker owns must have been touched by no other, and nothing that is counted may be lost.

    storms      connections that come and go, some with half a request, from another process
    per worker  a `pounce.per_worker` object counts its worker's requests; `state` of the lifespan is its worker's own
    posts       foreign threads post to every worker's loop under load; all runs, in its order, on the right thread
    helpers     `to_thread` brings every request its own answer
    reload      a foreign thread replaces a module's state again and again; no request sees half of it
    retirement  workers reach a request limit and are replaced, all the while

The switch interval means something with the GIL only; on a free-threaded build the threads run at the same time
anyway. On either, the workers are threads here. What this cannot see is a race in C: see docs/stress.md for
ThreadSanitizer.
"""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import random
import re
import sys
import threading
import time
from typing import Any

import pounce
from pounce.testing import TestServer
from stress.kit.actions import HARMLESS, file, request
from stress.kit.child_process import Apart
from stress.kit.clients import LEAST, Connection, Traffic
from stress.kit.pounce_server import Address, a_file
from stress.kit.scenario import Report, Setting, percentile

TOOLS = ()

WORKERS = 16
CLIENTS, POSTERS = 32, 4
SWITCH = 1e-6  # seconds
LIMIT = 1000  # requests of a worker until it is replaced
POST_EVERY = 0.002  # seconds
BLOCKED = re.compile(r"Worker \d+ .*has been blocked")


class Counts:
    """What one worker has counted; made once for each by `per_worker`. Remembers which threads have touched it."""

    made: list["Counts"] = []  # noqa: RUF012  appending is atomic

    def __init__(self) -> None:
        self.requests = 0
        self.threads: set[int] = set()
        Counts.made.append(self)

    def count(self) -> None:
        before = self.requests
        self.threads.add(threading.get_ident())
        self.requests = before + 1


counts = pounce.per_worker(Counts)
shared: tuple[int, int, bytes] = (0, 0, b"0")  # replaced as a whole
mistakes: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The application of all scenarios, looked at from within."""
    from stress.apps import busy

    if scope["type"] == "lifespan":
        scope["state"]["thread"] = threading.get_ident()
        await busy.lifespan(scope, receive, send)
        return
    thread = threading.get_ident()
    counts.count()
    if scope["state"]["thread"] != thread:
        mistakes.append("the state of another worker")
    one, two, text = shared
    if one * 2 != two or text != b"%d" % one:
        mistakes.append(f"half of a state: {one}, {two}, {text!r}")
    await busy.app(scope, receive, send)
    if threading.get_ident() != thread:
        mistakes.append("a request that began on one thread ended on another")


class Poster(threading.Thread):
    """Posts to every worker's loop, and sees that all of it runs: on the worker's thread, in order."""

    def __init__(self, server: TestServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.enough = threading.Event()
        self.posted = 0
        self.ran: dict[int, list[int]] = {}  # by worker; written by its thread alone
        self.keep: set[Any] = set()  # the workers, so that none gets another's id

    def run(self) -> None:
        while not self.enough.wait(POST_EVERY):
            assert self.server.server._supervisor._pool is not None
            for slot in self.server.server._supervisor._pool.slots:
                worker = getattr(slot.worker, "_worker", None)
                if worker is None or worker.phase.value != "serving":
                    continue
                number = self.posted
                ran = self.ran.setdefault(id(worker), [])
                self.keep.add(worker)
                try:
                    worker.loop.post(lambda ran=ran, number=number, worker=worker: self._run(worker, ran, number))
                except RuntimeError:  # it has just ended, and has said so
                    continue
                self.posted += 1

    def _run(self, worker: Any, ran: list[int], number: int) -> None:
        if not threading.current_thread().name.startswith("pounce-worker"):
            mistakes.append("a posted call ran elsewhere than on a worker's thread")
        ran.append(number)


def storm(address: Address, seconds: float, seed: int) -> int:
    """Connections that come and go. Gives how many."""
    return asyncio.run(_storm(address, seconds, random.Random(seed)))


async def _storm(address: Address, seconds: float, dice: random.Random) -> int:
    opened, end = 0, time.monotonic() + seconds
    whole = request("/")
    while time.monotonic() < end:
        batch = []
        for _ in range(dice.choice((1, 10, 200))):
            with contextlib.suppress(OSError):
                batch.append(await Connection.open(address))
        for connection in batch:
            with contextlib.suppress(OSError):
                connection.sock.send(whole[: dice.choice((0, 0, 5, len(whole)))])
            connection.close(reset=dice.random() < 0.5)
        opened += len(batch)
        await asyncio.sleep(dice.random() * 0.02)
    return opened


def load(address: Address, seconds: float, seed: int) -> dict[str, Any]:
    """Clients that ask. Every request that is sent whole is counted by some worker."""
    deeds = {deed: weight for deed, weight in HARMLESS.items() if deed not in (file,)}
    tally = asyncio.run(Traffic(address, deeds, CLIENTS, seed=seed).run(seconds))
    return {
        "text": str(tally), "answered": tally.answered, "refused": tally.refused, "again": tally.again,
        "balances": tally.balances, "lost": [str(cut) for cut in tally.cuts] + tally.wrong,
        "p95": percentile(tally.times, 95),
    }  # fmt: skip


def replace_state(enough: threading.Event) -> None:
    global shared
    number = 0
    while not enough.wait(0.0005):
        number += 1
        shared = (number, number * 2, b"%d" % number)


class Errors(logging.Handler):
    """What the server's log says that it should not."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self.slow: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else "")
        # A thread that the machine does not let run looks blocked, and is: no error.
        (self.slow if BLOCKED.match(text) else self.said).append(text)


def run(setting: Setting, report: Report) -> None:
    faulthandler.enable()
    from stress.apps import busy

    busy.FILE = str(a_file(setting.folder))
    Counts.made.clear()
    mistakes.clear()
    errors = Errors()
    logging.getLogger("pounce").addHandler(errors)
    logging.getLogger("pounce").propagate = False
    workers, seconds, before = setting.workers or WORKERS, setting.seconds, sys.getswitchinterval()
    enough = threading.Event()
    sys.setswitchinterval(SWITCH)
    try:
        # The first of its kind leaves what `multiprocessing` and the server keep once for each process.
        Apart(abs, 0).result(60)
        with TestServer(app, timeout=60, worker_kind="thread"):
            pass
        gc.collect()
        fds = len(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        options: dict[str, Any] = {"workers": workers, "worker_kind": "thread", "app_copies": "one"}
        if workers > 1:  # the only one would take the server with it
            options |= {"limit_max_requests": LIMIT, "limit_max_requests_jitter": LIMIT // 2}
        with TestServer(app, timeout=60, **options) as server:
            address = server.host, server.port
            posters = [Poster(server) for _ in range(POSTERS)]
            replacer = threading.Thread(target=replace_state, args=(enough,), daemon=True)
            for thread in (*posters, replacer):
                thread.start()
            with Apart(load, address, seconds, 1) as clients, Apart(storm, address, seconds, 2) as storms:
                seen = clients.result(seconds + 200)
                opened = storms.result(seconds + 200)
            for poster in posters:
                poster.enough.set()
            enough.set()
            for thread in (*posters, replacer):
                thread.join(30)
            _settle(posters)
        report.say(f"{workers} worker threads; {seen['text']}; p95 {seen['p95'] * 1e3:.0f} ms")
        report.check(seen["balances"] and not seen["lost"], f"requests lost: {seen['lost'][:3] or 0}")
        report.check(
            seen["answered"] >= LEAST * seconds and not seen["refused"],
            f"{seen['answered'] / seconds:.0f} answers a second, requests refused: {seen['refused']}",
        )
        counted = sum(each.requests for each in Counts.made)
        report.check(
            seen["answered"] <= counted <= seen["answered"] + seen["again"] + opened,
            f"{counted} requests counted in {len(Counts.made)} objects: {seen['answered']} answered, and some of the "
            f"{opened} connections of the storms",
        )
        touched = max((len(each.threads) for each in Counts.made), default=0)
        report.check(touched == 1, f"each per-worker object was touched by {touched} thread")
        posted, ran, dropped = sum(each.posted for each in posters), sum(map(_ran, posters)), _dropped(posters)
        report.check(
            ran <= posted <= ran + dropped,
            f"{posted} calls posted from {POSTERS} foreign threads, {ran} ran, {dropped} came too late for a loop",
        )
        order = all(numbers == sorted(numbers) for poster in posters for numbers in poster.ran.values())
        report.check(order, "each thread's calls ran in the order in which they were posted")
        report.check(not mistakes, f"state seen wrong: {len(mistakes)} {sorted(set(mistakes))[:3] or ''}")
        report.check(not errors.said, f"warnings and errors in the log: {len(errors.said)} {errors.said[:3] or ''}")
        report.say(f"said of threads that stood still: {len(errors.slow)} warnings")
        report.say(f"{len(Counts.made)} workers lived, {workers} at a time")
        # A loop keeps its descriptors as long as somebody may post to it.
        del server, posters, poster, thread
        gc.collect()
        left = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            if (left := len(os.listdir("/proc/self/fd"))) <= fds:
                break
            time.sleep(0.1)
        report.check(left <= fds, f"descriptors of the process {fds} -> {left}")
        # The helper threads belong to the process, not to a server.
        here = sum(not thread.name.startswith("pounce-helper") for thread in threading.enumerate())
        report.check(here <= threads, f"threads of the process {threads} -> {here}")
    finally:
        sys.setswitchinterval(before)
        enough.set()
        logging.getLogger("pounce").removeHandler(errors)


def _ran(poster: Poster) -> int:
    return sum(map(len, poster.ran.values()))


def _dropped(posters: list[Poster]) -> int:
    """What was posted to a loop after its last turn and before it was closed: closing drops that."""
    loops = {worker.loop for poster in posters for worker in poster.keep if worker.loop.closed}
    return sum(len(loop._posted) for loop in loops)


def _settle(posters: list[Poster]) -> None:
    """Waits until all that was posted has run, or will not."""
    end = time.monotonic() + 30
    while sum(map(_ran, posters)) + _dropped(posters) < sum(each.posted for each in posters) and time.monotonic() < end:
        time.sleep(0.05)
