"""Load generators: wrk, h2load, and many idle connections.

Each has a time limit, runs on the CPUs of the load, and raises Unmeasured when a response was missing or wrong: a
server that fails fast must not look like a fast server.
"""

import json
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stress.kit.errors import Unmeasured
from stress.kit.machine import on_cpus

SCRIPT = Path(__file__).parent / "load.lua"
LONGEST = 7200.0  # seconds that wrk runs in the background at most
GRACE = 20.0  # seconds that a load generator may take longer than asked before it is ended
PACKAGES = {  # Debian's names
    "ab": "apache2-utils", "curl": "curl", "h2load": "nghttp2-client", "haproxy": "haproxy", "nginx": "nginx",
    "slowhttptest": "slowhttptest", "wrk": "wrk",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A request that is sent repeatedly, and the content of its response."""

    port: int
    answer: bytes
    method: str = "GET"
    size: int = 0  # bytes of content, all of them "x"
    close: bool = False  # a new connection for every request


@dataclass(frozen=True)
class Counted:
    """What a load generator has measured."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    used: float  # CPU seconds of the load generator itself

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def tool(name: str) -> str | None:
    """The path of a program; nginx is often installed where only root's PATH leads."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def missing(name: str) -> str:
    return f"{name} is missing: install it with apt-get install {PACKAGES[name]}"


def wrk(request: Request, connections: int, seconds: float, cpus: frozenset[int]) -> Counted:
    """A closed loop: each connection sends the next request as soon as the last one is answered."""
    command = ["wrk", f"-c{connections}", f"-t{len(cpus)}", f"-d{max(1, round(seconds))}s", "--timeout", "10s",
               "-s", str(SCRIPT), f"http://127.0.0.1:{request.port}/", "--",
               request.method, str(request.size), str(int(request.close))]  # fmt: skip
    output, used = _run(command, seconds, cpus)
    seen = _counted_by_wrk(output)
    if wrong := _errors(seen) or "none answered" * (not seen["requests"]):
        raise Unmeasured(f"wrk: {seen['requests']} requests, {wrong}")
    if seen["bytes"] < seen["requests"] * len(request.answer):
        raise Unmeasured(f"wrk: answers are too short: {seen['bytes']} bytes in {seen['requests']} requests")
    return Counted(seen["requests"], seen["seconds"], seen["p50_us"] / 1e3, seen["p99_us"] / 1e3, used)


def _counted_by_wrk(output: str) -> dict[str, int]:
    """What the script has printed."""
    try:
        return json.loads(output[output.rindex("{") :])
    except ValueError:
        raise Unmeasured(f"wrk: {_last_line(output)}") from None


def _errors(seen: dict[str, int]) -> str:
    kinds = [kind for kind in ("statuses", "connect", "read", "write", "timeout") if seen[kind]]
    return ", ".join(f"{seen[kind]} {kind} errors" for kind in kinds)


class BackgroundWrk:
    """wrk that sends GET requests for / until it is stopped. A context: it runs within, and is ended at the end."""

    def __init__(self, address: tuple[str, int], connections: int) -> None:
        self.requests = 0  # complete responses
        self.longest_ms = 0.0
        self.errors = ""
        self._command = ["wrk", f"-c{connections}", "-t1", f"-d{LONGEST:.0f}s", "--timeout", "30s", "-s", str(SCRIPT),
                         f"http://{address[0]}:{address[1]}/", "--", "GET", "0", "0"]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, errors="replace")  # fmt: skip
        return self

    def stop(self) -> None:
        """Ends it, and reads what it has counted. Raises Unmeasured when it has ended early or does not end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            output, _ = self._process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            raise Unmeasured(f"wrk did not end within {GRACE:.0f} s") from None
        seen = _counted_by_wrk(output)
        self.requests, self.longest_ms, self.errors = seen["requests"], seen["max_us"] / 1e3, _errors(seen)

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def h2load(
    request: Request, connections: int, rate: float, seconds: float, cpus: frozenset[int], folder: Path
) -> Counted:
    """Nearly an open loop: each connection sends at a constant rate, but waits for the response before. A rate that was
    not reached shows in the result.

    Connections are opened a millisecond apart: h2load would otherwise send on all of them at once, and measure how long
    a burst takes. Only requests sent after the last connection was opened count.
    """
    ramp = connections / 1000 + 0.5  # seconds
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    total = round(rate * (ramp + seconds) / connections) * connections
    command = ["h2load", "--h1", f"-c{connections}", "-t1", "-m1", f"-n{total}", f"--rps={rate / connections:.4f}",
               "-r1", "--rate-period=1ms", f"--log-file={log}", f"http://127.0.0.1:{request.port}/"]  # fmt: skip
    output, used = _run(command, ramp + seconds, cpus)
    try:
        lines = log.read_text().splitlines()
        rows = [(int(began), int(status), int(took)) for began, status, took in map(str.split, lines)]
    except (OSError, ValueError):
        raise Unmeasured(f"h2load: {_last_line(output)}") from None
    # h2load reports status 0 where the reason phrase is empty, which RFC 9112 allows and h11 does.
    refused = sum(status not in (0, 200) for _, status, _ in rows)
    if refused or len(rows) < total:
        raise Unmeasured(f"h2load: of {total} requests {total - len(rows)} unanswered, {refused} not with 200")
    content = re.search(r"\((\d+)\) data", output)
    if content is None or int(content[1]) != total * len(request.answer):
        raise Unmeasured(f"h2load: {content and content[1]} bytes of content, not {total * len(request.answer)}")
    first = min(began for began, _, _ in rows) + ramp * 1e6
    times = sorted(took for began, _, took in rows if first <= began < first + seconds * 1e6)
    if len(times) < 100:
        raise Unmeasured(f"h2load: only {len(times)} requests in {seconds:g} s")
    return Counted(len(times), seconds, times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3, used)


def _run(command: list[str], seconds: float, cpus: frozenset[int]) -> tuple[str, float]:
    """The output of the program, and the CPU seconds it has used."""
    program, before = command[0], resource.getrusage(resource.RUSAGE_CHILDREN)
    if not shutil.which(program):
        raise Unmeasured(missing(program))
    try:
        with on_cpus(cpus):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", timeout=seconds + GRACE,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unmeasured(f"{program} did not end within {seconds + GRACE:.0f} s") from None
    if done.returncode:
        raise Unmeasured(f"{program}: {_last_line(done.stdout)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # no other child is waited for meanwhile
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def by_hand(request: Request, times: int = 2, timeout: float = 5.0) -> str:
    """Sends `times` requests, on one connection unless the workload closes each, and checks every byte of the
    responses. Returns the last response's field `x-way`, in which an application says how it has sent the content."""
    import http.client

    content = b"x" * request.size or None
    fields = {"Connection": "close"} if request.close else {}
    connection = http.client.HTTPConnection("127.0.0.1", request.port, timeout=timeout)
    way = ""
    try:
        for number in range(times):
            connection.request(request.method, "/", content, fields)
            opened = connection.sock
            answer = connection.getresponse()
            got = answer.read()
            if answer.status != 200:
                raise Unmeasured(f"answers {answer.status}: {got[:80]!r}")
            if got != request.answer:
                raise Unmeasured(f"answers {len(got)} bytes {got[:40]!r}, not {len(request.answer)} as it should")
            if not request.close and number + 1 < times and connection.sock is not opened:
                raise Unmeasured("closes the connection after an answer")
            way = answer.getheader("x-way", "")
    except (OSError, http.client.HTTPException) as error:
        raise Unmeasured(f"gives no answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    return way


class Idle:
    """Connections that are idle after one request each."""

    def __init__(self, request: Request, count: int, timeout: float = 60.0) -> None:
        self.sockets: list[socket.socket] = []
        deadline = time.monotonic() + timeout
        try:
            for _ in range(count):
                if time.monotonic() > deadline:
                    raise Unmeasured(f"accepted only {len(self.sockets)} connections in {timeout:.0f} s")
                sock = socket.create_connection(("127.0.0.1", request.port), timeout=5)
                self.sockets.append(sock)
                sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                got = b""
                while not got.endswith(request.answer):
                    if not (data := sock.recv(65536)):
                        raise Unmeasured(f"closes connection {len(self.sockets)} without an answer")
                    got += data
        except (OSError, Unmeasured) as error:
            self.close()
            raise Unmeasured(f"connection {len(self.sockets)} of {count}: {error}") from None

    def check(self) -> None:
        """Raises Unmeasured when one of them is no longer open."""
        poll = select.poll()
        for sock in self.sockets:
            poll.register(sock, select.POLLIN)
        if gone := poll.poll(0):
            raise Unmeasured(f"closed {len(gone)} of {len(self.sockets)} idle connections")

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
