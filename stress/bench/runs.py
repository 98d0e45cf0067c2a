"""How one run of a workload is measured. Every run has a new server, whose response is checked, and which is warmed up.

closed    wrk sends as fast as responses arrive: the cost of a request
scaling   the same with one worker, then with two
open      h2load sends at half the server's highest rate: the time that a request takes
idle      many connections without requests: the cost of a connection
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stress.kit.environments import Environment
from stress.kit.errors import Unmeasured
from stress.kit.load import Counted, Idle, Request, by_hand, h2load, wrk
from stress.kit.machine import Meter, Share, memory, share
from stress.kit.servers import Running, Server, Setup, free_port, running

WARM_UP = 1.0  # seconds; specialising the bytecode takes much less
SETTLE = 1.0  # seconds after the last connection was opened
IDLE_KEEP_ALIVE = 300  # seconds: longer than any run
LOG_DELAY = 2.0  # seconds that an access log may be late

Figures = dict[str, float]


@dataclass(frozen=True)
class Column:
    """A figure of the table."""

    title: str
    decimals: int = 0


@dataclass(frozen=True)
class Workload:
    """A request, the content of its response, and how the server is measured with it."""

    name: str
    about: str
    kind: "Kind"
    app: str
    answer: bytes
    method: str = "GET"
    size: int = 0
    connections: int = 64
    workers: int | None = None  # None: as many as the command line says
    access_log: bool = False
    close: bool = False
    references: tuple[str, ...] = ("floor",)


@dataclass
class Bench:
    """What the runs of one command have in common."""

    seconds: float
    workers: int
    folder: Path
    notes: dict[str, None] = field(default_factory=dict)  # lines under the table, in order, each once

    def share(self, workload: Workload) -> Share:
        return share(workload.workers or self.workers)

    @contextlib.contextmanager
    def serving(
        self, server: Server, environment: Environment, workload: Workload, workers: int | None = None
    ) -> Iterator[tuple[Running, Request]]:
        """A server whose responses were checked, and which has been warmed up."""
        answer = workload.answer
        (self.folder / "answer").write_bytes(answer)
        (self.folder / "response").write_bytes(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n%scontent-length: %d\r\n\r\n"
            % (b"connection: close\r\n" if workload.close else b"", len(answer)) + answer
        )  # fmt: skip
        request = Request(free_port(), answer, workload.method, workload.size, workload.close)
        setup = Setup(
            app=workload.app,
            port=request.port,
            folder=self.folder,
            workers=workers or workload.workers or self.workers,
            access_log=workload.access_log,
            keep_alive=IDLE_KEEP_ALIVE if workload.kind is IDLE else None,
            connections=workload.connections,
            pieces=workload.size > 16384,
            close=workload.close,
        )
        cpus = self.share(workload)
        with running(server, environment, setup, cpus.server) as alive:
            try:
                if way := by_hand(request):
                    self.notes[f"{server.name}: {way}"] = None
                wrk(request, min(workload.connections, 64), WARM_UP, cpus.load)
                if alive.enabled_gil():
                    self.notes[f"{server.name}: an extension module has enabled the GIL"] = None
                yield alive, request
            except Unmeasured as error:
                raise Unmeasured(f"{error} (its log: {alive.last_line()})") from None


def closed(
    bench: Bench, server: Server, environment: Environment, workload: Workload, workers: int | None = None
) -> Figures:
    cpus = bench.share(workload)
    with bench.serving(server, environment, workload, workers) as (alive, request):
        lines, meter = alive.lines(), Meter(alive.pid, cpus.server)
        counted = wrk(request, workload.connections, bench.seconds, cpus.load)
        meter.stop()
        if workload.access_log and server.logs:
            _check_log(alive, lines + counted.requests)
        return {
            "rate": counted.rate,
            "cpu_us": meter.used / counted.requests * 1e6,
            **_busy(meter, counted, cpus),
            "p50_ms": counted.p50_ms,
            "p99_ms": counted.p99_ms,
            "memory_mib": memory(alive.pid) / 2**20,
        }


def _busy(meter: Meter, counted: Counted, cpus: Share) -> Figures:
    """Percent of a CPU. Where server and load share their CPUs, other programs cannot be told from the load."""
    figures = {"busy": meter.used / meter.seconds * 100, "load": counted.used / meter.seconds * 100}
    if cpus.apart:
        figures["others"] = meter.others / meter.seconds * 100
    return figures


def _check_log(alive: Running, lines: int) -> None:
    """Raises Unmeasured when the access log omits requests: that would be cheap."""
    deadline = time.monotonic() + LOG_DELAY
    while (written := alive.lines()) < lines:
        if time.monotonic() > deadline:
            raise Unmeasured(f"its access log has {written} lines, not {lines}")
        time.sleep(0.1)


def scaling(bench: Bench, server: Server, environment: Environment, workload: Workload) -> Figures:
    one = closed(bench, server, environment, workload, workers=1)
    figures = closed(bench, server, environment, workload)
    return {**figures, "speed_up": figures["rate"] / one["rate"], "dearer": figures["cpu_us"] / one["cpu_us"]}


def open_(bench: Bench, server: Server, environment: Environment, workload: Workload) -> Figures:
    cpus = bench.share(workload)
    with bench.serving(server, environment, workload) as (alive, request):
        capacity = wrk(request, 64, max(2.0, bench.seconds / 2), cpus.load).rate
        rate = capacity / 2
        meter = Meter(alive.pid, cpus.server)
        counted = h2load(request, workload.connections, rate, bench.seconds, cpus.load, bench.folder)
        meter.stop()
        return {
            "capacity": capacity,
            "rate": counted.rate,
            "reached": counted.rate / rate * 100,
            **_busy(meter, counted, cpus),
            "p50_ms": counted.p50_ms,
            "p99_ms": counted.p99_ms,
        }


def idle(bench: Bench, server: Server, environment: Environment, workload: Workload) -> Figures:
    with bench.serving(server, environment, workload) as (alive, request):
        empty = memory(alive.pid)
        connections = Idle(request, workload.connections)
        try:
            time.sleep(SETTLE)
            full, meter = memory(alive.pid), Meter(alive.pid, bench.share(workload).server)
            time.sleep(bench.seconds)
            meter.stop()
            connections.check()
        finally:
            connections.close()
        return {
            "empty_mib": empty / 2**20,
            "full_mib": full / 2**20,
            "each_kib": (full - empty) / workload.connections / 1024,
            "idle_ms": meter.used / meter.seconds * 1000,
        }


@dataclass(frozen=True)
class Kind:
    """A way to measure: the function, the columns of its figures, and the figure by which servers are compared.

    "busy" is the server's share of its CPUs, "others" that of all other programs, "load" the load generator's share of
    its own CPUs. A server that is not busy waits for the load or for other programs. Where those take more than a few
    percent, the machine is too busy for measurements.
    """

    measure: Callable[[Bench, Server, Environment, Workload], Figures]
    compared: str
    columns: dict[str, Column]
    max_runs: int = 1000


_CLOSED = {
    "rate": Column("req/s"),
    "cpu_us": Column("CPU us/req", 1),
    "busy": Column("busy %"),
    "others": Column("others %"),
    "load": Column("wrk %"),
    "p50_ms": Column("p50 ms", 2),
    "p99_ms": Column("p99 ms", 2),
    "memory_mib": Column("PSS MiB", 1),
}
CLOSED = Kind(closed, "cpu_us", _CLOSED)
SCALING = Kind(
    scaling, "cpu_us", {**_CLOSED, "speed_up": Column("req/s of 1", 2), "dearer": Column("CPU of 1", 2)}
)  # fmt: skip
OPEN = Kind(
    open_,
    "p99_ms",
    {
        "capacity": Column("capacity"),
        "rate": Column("req/s"),
        "reached": Column("of asked %"),
        "busy": Column("busy %"),
        "others": Column("others %"),
        "load": Column("h2load %"),
        "p50_ms": Column("p50 ms", 2),
        "p99_ms": Column("p99 ms", 2),
    },
)
IDLE = Kind(
    idle,
    "each_kib",
    {
        "empty_mib": Column("PSS MiB before", 1),
        "full_mib": Column("PSS MiB with", 1),
        "each_kib": Column("KiB each", 2),
        "idle_ms": Column("CPU ms/s", 2),
    },
    max_runs=2,
)
