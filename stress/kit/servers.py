"""Starts a server that is compared with others, waits until it listens, and ends it.

A server runs in a session of its own, on the CPUs of the server's share, in the directory of the applications. Neither
this project nor the user's settings are in its environment.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stress.kit.environments import Environment
from stress.kit.errors import Unmeasured
from stress.kit.machine import on_cpus

APPS = Path(__file__).parents[1] / "apps"
START = 30.0  # seconds a server may take until it listens
END = 5.0  # seconds after SIGTERM until it is killed
PORTS = range(18000, 28000)  # below those the kernel gives to clients
NOT_INHERITED = ("PYTHON", "POUNCE_", "UVICORN_", "GRANIAN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Setup:
    """What a workload requires of a server's command line."""

    app: str
    port: int
    folder: Path  # temporary; the file `answer` is the content of the response, `response` all of it
    workers: int = 1
    access_log: bool = False
    keep_alive: int | None = None  # seconds; None for the server's own default
    connections: int = 64
    pieces: bool = False  # requests are larger than one recv
    close: bool = False  # the connection ends with the response

    @property
    def bind(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Server:
    """A kind of server, and how to start it."""

    name: str
    about: str
    needs: tuple[str, ...]  # distributions, its own first; for nginx the program
    command: Callable[[Environment, Setup], list[str]]
    logs: bool = True  # can it write an access log here?


@dataclass(frozen=True)
class Running:
    """A server that listens, with its log."""

    pid: int
    log: Path

    def lines(self) -> int:
        """The number of lines it has logged so far."""
        with open(self.log, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:160] if lines else "its log is empty"

    def enabled_gil(self) -> bool:
        with open(self.log, "rb") as file:
            return b"global interpreter lock (GIL) has been enabled" in file.read(1 << 16)


def free_port() -> int:
    # At random: with SO_REUSEPORT the servers of two benchmarks that run at once could share a port.
    for port in random.sample(PORTS, 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Unmeasured(f"found no free port between {PORTS.start} and {PORTS.stop}")


@contextlib.contextmanager
def running(
    server: Server, environment: Environment, setup: Setup, cpus: frozenset[int], app_folder: Path = APPS
) -> Iterator[Running]:
    """A server that listens. At the end it is stopped and its session is killed. Raises Unmeasured."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    variables["STRESS_FILE"] = str(setup.folder / "answer")
    log = setup.folder / f"{server.name}.log"
    with open(log, "wb") as output, on_cpus(cpus):
        process = subprocess.Popen(
            server.command(environment, setup), cwd=app_folder, env=variables, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        alive = Running(process.pid, log)
        _wait(process.pid, alive, setup.port)
        yield alive
    finally:
        _end(process)


def _wait(pid: int, alive: Running, port: int) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if _ended(pid):
            raise Unmeasured(f"does not start: {alive.last_line()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise Unmeasured(f"does not listen after {START:.0f} s: {alive.last_line()}")


def _ended(pid: int) -> bool:
    """Has the process ended? It stays a zombie, so that its number and that of its group are not used again."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + END
    while not _ended(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
