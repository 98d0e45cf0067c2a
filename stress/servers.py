"""How each server is started, waited for, and ended.

Every server gets what its documentation recommends for speed, one worker unless asked otherwise, its access log off
unless asked otherwise, and no other option: what people run is what is measured. It runs in a session of its own, on
the CPUs that are meant for it, in the folder of the applications, without this project or the person's settings in
its environment.
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

from stress import Unmeasured
from stress.load import tool
from stress.machine import on_cpus
from stress.peers import Environment

APPS = Path(__file__).parent / "apps"
START = 30.0  # seconds a server may take until it listens
END = 5.0  # seconds it may take to end when asked politely
PORTS = range(18000, 28000)  # below those the kernel gives to clients
FOREIGN = ("PYTHON", "POUNCE_", "UVICORN_", "GRANIAN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Setup:
    """What one workload asks of a server's command line."""

    app: str
    port: int
    folder: Path  # scratch: `answer` is the content of the right answer, `response` the whole of it
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
    name: str
    about: str
    needs: tuple[str, ...]  # distributions; for nginx the program
    command: Callable[[Environment, Setup], list[str]]
    logs: bool = True  # can it write an access log here?


def _pounce(place: Environment, setup: Setup) -> list[str]:
    return [str(place.python), "-m", "pounce", setup.app, f"--port={setup.port}", f"--workers={setup.workers}",
            "--access-log" if setup.access_log else "--no-access-log",
            *([f"--timeout-keep-alive={setup.keep_alive}"] if setup.keep_alive else [])]  # fmt: skip


def _uvicorn(http: str, loop: str) -> Callable[[Environment, Setup], list[str]]:
    def command(place: Environment, setup: Setup) -> list[str]:
        return [str(place.python), "-m", "uvicorn", setup.app, f"--port={setup.port}", f"--workers={setup.workers}",
                f"--http={http}", f"--loop={loop}", "--access-log" if setup.access_log else "--no-access-log",
                *([f"--timeout-keep-alive={setup.keep_alive}"] if setup.keep_alive else [])]  # fmt: skip

    return command


def _hypercorn(place: Environment, setup: Setup) -> list[str]:
    return [str(place.python), "-m", "hypercorn", setup.app, f"--bind={setup.bind}", f"--workers={setup.workers}",
            *(["--worker-class=uvloop"] if "uvloop" in place.versions else []),
            *(["--access-logfile=-"] if setup.access_log else []),
            *([f"--keep-alive={setup.keep_alive}"] if setup.keep_alive else [])]  # fmt: skip


def _granian(place: Environment, setup: Setup) -> list[str]:
    # It closes idle connections by its deadline for a request's head, at most a minute; and where --backpressure
    # is not given, it takes no more connections than its backlog is long.
    return [str(place.python), "-m", "granian", setup.app, "--interface=asgi", f"--port={setup.port}",
            f"--workers={setup.workers}", *(["--access-log"] if setup.access_log else []),
            *(["--http1-header-read-timeout=60000"] if setup.keep_alive else []),
            *([f"--backpressure={2 * setup.connections}"] if setup.connections >= 1000 else [])]  # fmt: skip


def _bengal(place: Environment, setup: Setup) -> list[str]:
    return [str(place.python), "-m", "pounce", "serve", "--app", setup.app, "--host", "127.0.0.1", "--port",
            str(setup.port), "--workers", str(setup.workers), *([] if setup.access_log else ["--no-access-log"]),
            *(["--keep-alive-timeout", str(setup.keep_alive)] if setup.keep_alive else [])]  # fmt: skip


def _floor(place: Environment, setup: Setup) -> list[str]:
    return [str(place.python), str(APPS.parent / "floor.py"), str(setup.port), f"--workers={setup.workers}",
            f"--answer={setup.folder / 'response'}", *(["--request-length"] if setup.pieces else []),
            *(["--close"] if setup.close else [])]  # fmt: skip


NGINX = """
daemon off; {user} worker_processes {workers}; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 20000; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000; default_type text/plain;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{ listen {bind} reuseport; root {folder}; location / {{ try_files /answer =404; }} }}
}}
"""


def _nginx(place: Environment, setup: Setup) -> list[str]:
    folder = setup.folder
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user, bind=setup.bind, workers=setup.workers))
    return [tool("nginx") or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


SERVERS = {server.name: server for server in (
    Server("pounce", "this checkout", ("pounce",), _pounce),
    Server("granian", "", ("granian",), _granian),
    Server("uvicorn", "httptools, uvloop", ("uvicorn", "httptools", "uvloop"), _uvicorn("httptools", "uvloop")),
    Server("uvicorn-h11", "h11, asyncio", ("uvicorn", "h11"), _uvicorn("h11", "asyncio")),
    Server("hypercorn", "uvloop where there is one", ("hypercorn",), _hypercorn),
    Server("bengal-pounce", "", ("bengal-pounce",), _bengal),
    Server("floor", "selectors, fixed bytes", (), _floor, logs=False),
    Server("nginx", "sendfile", ("nginx",), _nginx, logs=False),
)}  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    pid: int
    log: Path

    def lines(self) -> int:
        """Lines it has written so far."""
        with open(self.log, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:160] if lines else "it wrote nothing"

    def switched_gil_on(self) -> bool:
        with open(self.log, "rb") as file:
            return b"global interpreter lock (GIL) has been enabled" in file.read(1 << 16)


def free_port() -> int:
    # Several servers can listen at one port (SO_REUSEPORT): two benchmarks at once must not meet there.
    for port in random.sample(PORTS, 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Unmeasured(f"found no free port between {PORTS.start} and {PORTS.stop}")


@contextlib.contextmanager
def running(server: Server, place: Environment, setup: Setup, cpus: frozenset[int]) -> Iterator[Running]:
    """Starts a server, waits until it listens, and ends it, with all it has started, in any case."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment["STRESS_FILE"] = str(setup.folder / "answer")
    log = setup.folder / f"{server.name}.log"
    with open(log, "wb") as output, on_cpus(cpus):
        process = subprocess.Popen(
            server.command(place, setup), cwd=APPS, env=environment, stdin=subprocess.DEVNULL, stdout=output,
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
        if _over(pid):
            raise Unmeasured(f"does not start: {alive.last_words()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise Unmeasured(f"does not listen after {START:.0f} s: {alive.last_words()}")


def _over(pid: int) -> bool:
    """Has the process ended? It stays a zombie, so that its number, and its group's, stay its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + END
    while not _over(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
