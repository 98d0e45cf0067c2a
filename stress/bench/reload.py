"""--reload: how long it takes from the write of a file to the first answer of the new code, beside uvicorn.

The application is `apps/shop`: FastAPI with 30 routes and SQLAlchemy. One module of it is changed again and again, in
place and as editors replace a file, in turn. A client asks for its version every 2 ms all the while, as a page that is
developed may; a request of it fails when the connection is refused, or ends without a complete response.

    plain       nothing else
    stream      with one open event stream, which is opened again whenever the server ends it
    files       with 10,000 more files in the watched folder
    rest        CPU of the server while nothing is changed, with these files
    memory      what more reloads add to the memory of the server (PSS)

A reload that has not happened after 15 s is given up, and with it what was to be measured. The priority of server and
client is raised where that is allowed.
"""

import argparse
import contextlib
import os
import random
import select
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stress.kit.environments import TAG, Environment, find_or_make
from stress.kit.errors import Unmeasured
from stress.kit.machine import Meter, memory, on_cpus, raise_priority, share
from stress.kit.servers import APPS, Running, Server, Setup, free_port, running

PACKAGES = ("uvicorn", "fastapi", "sqlalchemy")
EDITED = Path("shop/routers/about.py")
MARK = "VERSION = 0"
ASK_EVERY = 0.002  # seconds
PATIENCE = 15.0  # seconds that a reload may take
PAUSE = 0.3, 0.8  # seconds from an answer of the new code to the next edit; at random, as uvicorn polls each 0.25
FILES, FOLDERS = 10_000, 200
WARM_UP = 5  # reloads before the memory is measured
SETTLE = 3.0  # seconds in which an old generation ends
MIB = 1 << 20
GOALS = {"plain": 150.0, "stream": 150.0, "files": 300.0, "rest": 0.5, "memory": 10.0}  # milliseconds, percent, MiB
WHAT = tuple(GOALS)


def _command(module: str) -> Callable[[Environment, Setup], list[str]]:
    def command(environment: Environment, setup: Setup) -> list[str]:
        return [str(environment.python), "-m", module, setup.app, f"--port={setup.port}", "--reload", "--no-access-log"]

    return command


SERVERS = {server.name: server for server in (
    Server("pounce", "this checkout", ("pounce-asgi",), _command("pounce")),
    Server("uvicorn", "watches by polling", ("uvicorn",), _command("uvicorn")),
    Server("uvicorn-watchfiles", "uvicorn with watchfiles", ("uvicorn", "watchfiles"), _command("uvicorn")),
)}  # fmt: skip


class Client:
    """Asks for the version on one connection, which it opens again when it has ended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._sock: socket.socket | None = None
        self.failures: list[str] = []

    def version(self) -> int | None:
        """None where the request fails. A connection that the server has closed while it was idle is no failure."""
        try:
            if self._sock is None or self._ended(self._sock):
                self.close()
                self._sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            return int(_content(self._sock, "/version"))
        except (OSError, ValueError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            self.close()
            return None

    @staticmethod
    def _ended(sock: socket.socket) -> bool:
        """Has the server closed the connection? It sends nothing that was not asked for."""
        return bool(select.select([sock], [], [], 0)[0])

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def until(self, version: int) -> bool:
        """Asks until the answer is this version. False after PATIENCE seconds."""
        end = time.monotonic() + PATIENCE
        while self.version() != version:
            if time.monotonic() > end:
                return False
            time.sleep(ASK_EVERY)
        return True

    def rest(self, seconds: float) -> None:
        """Asks on while nothing is changed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.version()
            time.sleep(ASK_EVERY)


def _content(sock: socket.socket, path: str) -> bytes:
    """The content of the response. Raises OSError and ValueError."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += _more(sock)
    head, _, content = got.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0] + b" ":
        raise ValueError(f"answers {lines[0].decode(errors='replace')}")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(content) < length:
        content += _more(sock)
    return content


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("ended by the server")
    return data


class EventStream(threading.Thread):
    """A client with an open event stream, as a page has one: opened again whenever it ends."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._address = "127.0.0.1", port
        self._stop = threading.Event()
        self.open = threading.Event()
        """Has the present one sent something?"""

    def run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(self._address, timeout=0.2) as sock:
                sock.sendall(b"GET /events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n")
                while not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not (data := sock.recv(65536)) or data.endswith(b"0\r\n\r\n"):
                            break
                        self.open.set()
            self.open.clear()
            self._stop.wait(0.02)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join(PATIENCE)


@dataclass
class Project:
    """The application in a folder of its own, which can be changed."""

    folder: Path
    version: int = 0

    @classmethod
    def make(cls, folder: Path, files: int = 0) -> Self:
        shutil.copytree(APPS / "shop", folder / "shop", ignore=shutil.ignore_patterns("__pycache__"))
        for number in range(files):
            path = folder / "more" / f"folder{number % FOLDERS}" / f"module{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("VALUE = 1\n")
        return cls(folder)

    def edit(self) -> None:
        """Writes the next version: in place, or a new file that replaces the old one."""
        self.version += 1
        path = self.folder / EDITED
        text = (APPS / EDITED).read_text().replace(MARK, f"VERSION = {self.version}")
        if self.version % 2:
            path.write_text(text)
        else:
            other = path.with_suffix(".py~")
            other.write_text(text)
            os.replace(other, path)


@dataclass
class Cell:
    """What the table shows of one server and one way to measure."""

    text: str
    figure: float = float("inf")
    """Milliseconds, percent or MiB."""
    failed: int = 0
    """Requests."""


@dataclass(frozen=True)
class Bench:
    folder: Path
    runs: int
    more: int
    """Reloads for the memory."""
    seconds: float
    """For the CPU at rest."""

    @contextlib.contextmanager
    def serving(self, server: Server, environment: Environment, files: int = 0) -> Iterator[tuple[Running, "Page"]]:
        project = Project.make(Path(tempfile.mkdtemp(dir=self.folder)), files)
        setup = Setup("shop.main:app", free_port(), self.folder)  # its log is not in the watched folder
        cpus = share(1)
        with running(server, environment, setup, cpus.server, project.folder) as alive, on_cpus(cpus.load):
            raise_priority(alive.pid)
            client = Client(setup.port)
            try:
                if not client.until(0):
                    raise Unmeasured(f"does not answer: {client.failures[-1:]} (its log: {alive.last_line()})")
                client.rest(1.0)
                client.failures.clear()
                yield alive, Page(project, client)
            finally:
                client.close()

    def plain(self, server: Server, environment: Environment) -> Cell:
        with self.serving(server, environment) as (_, page):
            return page.reload(self.runs)

    def stream(self, server: Server, environment: Environment) -> Cell:
        with self.serving(server, environment) as (_, page), EventStream(page.client.port) as stream:
            return page.reload(self.runs, stream)

    def files(self, server: Server, environment: Environment) -> Cell:
        with self.serving(server, environment, FILES) as (_, page):
            return page.reload(self.runs)

    def rest(self, server: Server, environment: Environment) -> Cell:
        with self.serving(server, environment, FILES) as (alive, page):
            page.reload(1)
            page.client.close()
            time.sleep(SETTLE)
            meter = Meter(alive.pid, share(1).server)
            time.sleep(self.seconds)
            meter.stop()
            percent = meter.used / meter.seconds * 100
            return Cell(f"{percent:.2f} %", percent)

    def memory(self, server: Server, environment: Environment) -> Cell:
        if server.name != "pounce":
            return Cell("a new process each time")
        with self.serving(server, environment) as (alive, page):
            page.reload(WARM_UP)
            page.client.rest(SETTLE)
            before = memory(alive.pid)
            page.reload(self.more)
            page.client.rest(SETTLE)
            growth = (memory(alive.pid) - before) / MIB
            return Cell(f"{growth:+.1f} MiB from {before / MIB:.1f}", growth)


@dataclass(frozen=True)
class Page:
    """What is edited, and who looks at it."""

    project: Project
    client: Client

    def reload(self, runs: int, stream: EventStream | None = None) -> Cell:
        """Raises Unmeasured when the new code is not served."""
        times: list[float] = []
        for _ in range(runs):
            if stream is not None and not stream.open.wait(PATIENCE):
                raise Unmeasured("the event stream cannot be opened")
            began = time.monotonic()
            self.project.edit()
            if not self.client.until(self.project.version):
                raise Unmeasured(f"never in {PATIENCE:.0f} s, after {len(times)} reloads")
            times.append((time.monotonic() - began) * 1e3)
            self.client.rest(random.uniform(*PAUSE))
        failed = len(self.client.failures)
        median = statistics.median(times)
        return Cell(f"{median:.0f} ms ({max(times):.0f}; {failed})", median, failed)


def environment_of(server: Server, renew: bool) -> Environment:
    """uvicorn uses watchfiles wherever it is installed, so that it has two environments."""
    more = server.needs[1:]
    return find_or_make("-".join(("reload", *more)), (*PACKAGES, *more), renew=renew)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m stress reload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("what", nargs="*", metavar="WHAT", help=f"{', '.join(WHAT)} (default: all)")
    add("--servers", metavar="NAME,...", default=",".join(SERVERS), help="default: all")
    add("--runs", type=int, default=20, metavar="N", help="reloads of each median (default: 20)")
    add("--more", type=int, default=200, metavar="N", help="reloads for the memory (default: 200)")
    add("--seconds", type=float, default=10, metavar="N", help="for the CPU at rest (default: 10)")
    add("--goals", action="store_true", help="exit with 1 if Pounce misses a goal of the project, or fails a request")
    add("--renew", action="store_true", help="install the other servers again, in their newest versions")
    return result


def main(arguments: list[str]) -> int:
    command = parser()
    options = command.parse_args(arguments)
    chosen = options.servers.split(",")
    if wrong := [name for name in options.what if name not in WHAT] or [name for name in chosen if name not in SERVERS]:
        command.error(f"{wrong[0]!r} is none of {', '.join((*WHAT, *SERVERS))}")
    for number in (signal.SIGINT, signal.SIGTERM):  # by an exception, so that servers are ended on the way out
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    environments = {name: environment_of(SERVERS[name], options.renew) for name in chosen}
    for name, environment in list(environments.items()):
        if lacking := environment.lacks((*PACKAGES, *SERVERS[name].needs)):
            print(f"{name} is left out: no {', '.join(lacking)} for {TAG}")
            del environments[name]
    raise_priority(os.getpid())
    cells: dict[tuple[str, str], Cell] = {}
    with tempfile.TemporaryDirectory(prefix="pounce-reload-") as folder:
        bench = Bench(Path(folder), options.runs, options.more, options.seconds)
        for what in options.what or WHAT:
            for name, environment in environments.items():
                try:
                    cells[what, name] = getattr(bench, what)(SERVERS[name], environment)
                except Unmeasured as error:
                    cells[what, name] = Cell(str(error))
                print(f"  {what} {name}: {cells[what, name].text}", file=sys.stderr, flush=True)
    versions = next((environment.versions for environment in environments.values()), {})
    print(f"Python {TAG}, {', '.join(f'{name} {versions[name]}' for name in PACKAGES if name in versions)}; medians of "
          f"{options.runs} reloads, in brackets the longest and the failed requests; memory after {options.more}; "
          f"{share(1)}")  # fmt: skip
    print(f"{'':10}" + "".join(f"{name:32}" for name in environments).rstrip())
    for what in options.what or WHAT:
        print(f"{what:10}" + "".join(f"{cells[what, name].text:32}" for name in environments).rstrip())
    return int(options.goals and not all(met(what, cell) for (what, name), cell in cells.items() if name == "pounce"))


def met(what: str, cell: Cell) -> bool:
    """Has it reached its goal, without a failed request? Prints the answer."""
    good = cell.figure <= GOALS[what] and not cell.failed
    print(f"goal {what}: at most {GOALS[what]:g}, no failed request: {'met' if good else 'MISSED'}: {cell.text}")
    return good
