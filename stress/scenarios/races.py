"""Many worker threads in one process, with a switch interval of a microsecond. An object that belongs to a worker must
be used on no other thread, and every counter must be exact.

    storms      connections that are opened and closed, some within a request, from another process
    per worker  a `pounce.per_worker` object counts its worker's requests; `state` of the lifespan is its worker's own
    posts       other threads post to every worker's loop under load; all calls run, in order, on the worker's thread
    to_thread   every request gets the value of its own call
    replacement another thread replaces a module's variable again and again; no request sees half of a value
    retirement  workers reach a request limit and are replaced under load

The switch interval has an effect with the GIL only; without it the threads run at once anyway. The workers are threads
with either. A race in C is not visible here: docs/stress.md says how ThreadSanitizer finds it.
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
from stress.kit.child_process import ChildProcess
from stress.kit.clients import MIN_RATE, Connection, Traffic
from stress.kit.pounce_server import Address, sample_file
from stress.kit.scenario import Report, Setting, percentile

TOOLS = ()

WORKERS = 16
CLIENTS, POSTERS = 32, 4
SWITCH = 1e-6  # seconds
LIMIT = 1000  # requests of a worker until it is replaced
POST_EVERY = 0.002  # seconds
BLOCKED = re.compile(r"Worker \d+ .*has been blocked")


class Counts:
    """The counters of one worker, made by `per_worker`, with the threads that have used it."""

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
shared: tuple[int, int, bytes] = (0, 0, b"0")  # replaced by `replace_shared`, as one reference
mistakes: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The application of the other scenarios, with checks around it."""
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
        mistakes.append(f"half of a value: {one}, {two}, {text!r}")
    await busy.app(scope, receive, send)
    if threading.get_ident() != thread:
        mistakes.append("a request that began on one thread ended on another")


class Poster(threading.Thread):
    """Posts calls to every worker's loop. They must run on the worker's thread, in order."""

    def __init__(self, server: TestServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.stop = threading.Event()
        self.posted = 0
        self.ran: dict[int, list[int]] = {}  # by worker; written by its thread alone
        self.keep: set[Any] = set()  # the workers, so that the id of one is not used again

    def run(self) -> None:
        while not self.stop.wait(POST_EVERY):
            assert self.server.server._supervisor._pool is not None
            for slot in self.server.server._supervisor._pool.slots:
                worker = getattr(slot.worker, "_worker", None)
                if worker is None or worker.state.value != "serving":
                    continue
                number = self.posted
                ran = self.ran.setdefault(id(worker), [])
                self.keep.add(worker)
                try:
                    worker.loop.post(lambda ran=ran, number=number, worker=worker: self._run(worker, ran, number))
                except RuntimeError:  # its loop has just been closed
                    continue
                self.posted += 1

    def _run(self, worker: Any, ran: list[int], number: int) -> None:
        if not threading.current_thread().name.startswith("pounce-worker"):
            mistakes.append("a posted call ran on another thread than a worker's")
        ran.append(number)


def storm(address: Address, seconds: float, seed: int) -> int:
    """Opens and closes connections. Returns how many."""
    return asyncio.run(_storm(address, seconds, random.Random(seed)))


async def _storm(address: Address, seconds: float, rng: random.Random) -> int:
    opened, end = 0, time.monotonic() + seconds
    whole = request("/")
    while time.monotonic() < end:
        batch = []
        for _ in range(rng.choice((1, 10, 200))):
            with contextlib.suppress(OSError):
                batch.append(await Connection.open(address))
        for connection in batch:
            with contextlib.suppress(OSError):
                connection.sock.send(whole[: rng.choice((0, 0, 5, len(whole)))])
            connection.close(reset=rng.random() < 0.5)
        opened += len(batch)
        await asyncio.sleep(rng.random() * 0.02)
    return opened


def load(address: Address, seconds: float, seed: int) -> dict[str, Any]:
    """Clients that send without pause; returns the outcome of their requests."""
    actions = {action: weight for action, weight in HARMLESS.items() if action not in (file,)}
    tally = asyncio.run(Traffic(address, actions, CLIENTS, seed=seed).run(seconds))
    return {
        "text": str(tally), "answered": tally.answered, "refused": tally.refused, "again": tally.retriable,
        "balances": tally.balances, "lost": [str(each) for each in tally.lost] + tally.wrong,
        "p95": percentile(tally.times, 95),
    }  # fmt: skip


def replace_shared(stop: threading.Event) -> None:
    global shared
    number = 0
    while not stop.wait(0.0005):
        number += 1
        shared = (number, number * 2, b"%d" % number)


class Errors(logging.Handler):
    """Collects warnings and errors of the server's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.unexpected: list[str] = []
        self.slow: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else "")
        # A thread that the machine does not schedule is blocked: that warning is correct.
        (self.slow if BLOCKED.match(text) else self.unexpected).append(text)


def run(setting: Setting, report: Report) -> None:
    faulthandler.enable()
    from stress.apps import busy

    busy.FILE = str(sample_file(setting.folder))
    Counts.made.clear()
    mistakes.clear()
    errors = Errors()
    logging.getLogger("pounce").addHandler(errors)
    logging.getLogger("pounce").propagate = False
    workers, seconds, before = setting.workers or WORKERS, setting.seconds, sys.getswitchinterval()
    stop = threading.Event()
    sys.setswitchinterval(SWITCH)
    try:
        # The first child and the first server leave descriptors and threads that a process has once.
        ChildProcess(abs, 0).result(60)
        with TestServer(app, timeout=60, worker_kind="thread"):
            pass
        gc.collect()
        fds = len(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        options: dict[str, Any] = {"workers": workers, "worker_kind": "thread", "app_copies": "one"}
        if workers > 1:  # with one worker the server would end at its limit
            options |= {"limit_max_requests": LIMIT, "limit_max_requests_jitter": LIMIT // 2}
        with TestServer(app, timeout=60, **options) as server:
            address = server.host, server.port
            posters = [Poster(server) for _ in range(POSTERS)]
            replacer = threading.Thread(target=replace_shared, args=(stop,), daemon=True)
            for thread in (*posters, replacer):
                thread.start()
            with ChildProcess(load, address, seconds, 1) as clients, ChildProcess(storm, address, seconds, 2) as storms:
                seen = clients.result(seconds + 200)
                opened = storms.result(seconds + 200)
            for poster in posters:
                poster.stop.set()
            stop.set()
            for thread in (*posters, replacer):
                thread.join(30)
            _wait_for_posts(posters)
        report.log(f"{workers} worker threads; {seen['text']}; p95 {seen['p95'] * 1e3:.0f} ms")
        report.check(seen["balances"] and not seen["lost"], f"requests lost: {seen['lost'][:3] or 0}")
        report.check(
            seen["answered"] >= MIN_RATE * seconds and not seen["refused"],
            f"{seen['answered'] / seconds:.0f} responses/s, requests refused: {seen['refused']}",
        )
        counted = sum(each.requests for each in Counts.made)
        report.check(
            seen["answered"] <= counted <= seen["answered"] + seen["again"] + opened,
            f"{counted} requests counted in {len(Counts.made)} objects: {seen['answered']} answered, and some of the "
            f"{opened} connections of the storms",
        )
        touched = max((len(each.threads) for each in Counts.made), default=0)
        report.check(touched == 1, f"each per-worker object was used by {touched} thread")
        posted, ran, dropped = sum(each.posted for each in posters), sum(map(_ran, posters)), _dropped(posters)
        report.check(
            0 < ran <= posted <= ran + dropped,
            f"{posted} calls posted from {POSTERS} other threads, {ran} ran, {dropped} were dropped by closed loops",
        )
        order = all(numbers == sorted(numbers) for poster in posters for numbers in poster.ran.values())
        report.check(order, "each thread's calls ran in the order in which they were posted")
        report.check(not mistakes, f"mistakes: {len(mistakes)} {sorted(set(mistakes))[:3] or ''}")
        unexpected = errors.unexpected
        report.check(not unexpected, f"warnings and errors in the log: {len(unexpected)} {unexpected[:3] or ''}")
        report.log(f"warnings about blocked workers: {len(errors.slow)}")
        report.log(f"{len(Counts.made)} workers lived, {workers} at a time")
        # A loop keeps its descriptors for as long as another thread may post to it.
        del server, posters, poster, thread
        gc.collect()
        left = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            if (left := len(os.listdir("/proc/self/fd"))) <= fds:
                break
            time.sleep(0.1)
        report.check(left <= fds, f"descriptors of the process {fds} -> {left}")
        # The thread pool belongs to the process, not to a server.
        here = sum(not thread.name.startswith("pounce-helper") for thread in threading.enumerate())
        report.check(here <= threads, f"threads of the process {threads} -> {here}")
    finally:
        sys.setswitchinterval(before)
        stop.set()
        logging.getLogger("pounce").removeHandler(errors)


def _ran(poster: Poster) -> int:
    return sum(map(len, poster.ran.values()))


def _dropped(posters: list[Poster]) -> int:
    """Calls that were posted after a loop's last turn and before it was closed, which drops them."""
    loops = {worker.loop for poster in posters for worker in poster.keep if worker.loop.closed}
    return sum(len(loop._posted) for loop in loops)


def _wait_for_posts(posters: list[Poster]) -> None:
    """Waits until every posted call has run or was dropped."""
    end = time.monotonic() + 30
    while sum(map(_ran, posters)) + _dropped(posters) < sum(each.posted for each in posters) and time.monotonic() < end:
        time.sleep(0.05)
