"""The cost of a request, stage by stage.

Each stage runs alone, many times, on this thread, with the server's objects and no clients. The last two lines are the
complete path of a request: with sockets that do nothing, then with a pair of connected sockets. The stages add up to
less than that; the difference is the calls between them, the loop and the deadlines.

Then, if wrk is installed, a server under load, and its CPU time in user space and in the kernel. The kernel's part is
recv, send with TCP's work for both ends, and epoll_wait: no server needs less.
"""

import argparse
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pounce.app.loading import load
from pounce.asgi.scope import http_scope
from pounce.config.config import Config
from pounce.connections.default_fields import DefaultFields
from pounce.kernel.loop import Loop
from pounce.kernel.task import spawn
from pounce.protocols.h1.reader import HeadCache, Limits, RequestReader
from pounce.protocols.h1.writer import ResponseCache, ResponseWriter
from pounce.worker.worker import Worker
from stress.kit.load import Request, missing, tool, wrk
from stress.kit.machine import TICK, fields, on_cpus, share
from stress.kit.pounce_server import Pounce
from stress.kit.scenario import Setting

WRK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
BROWSER = (
    b"GET /shop/items/42?page=3&sort=price HTTP/1.1\r\nHost: shop.example.org\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="142", "Not_A Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
    b"Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like "
    b"Gecko) Chrome/142.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    b"\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nReferer: "
    b"https://shop.example.org/shop\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en,de;q=0.9\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n"
)
FIELDS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
ROUNDS = 20_000


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": FIELDS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


def cost(step: Callable[[], object]) -> float:
    """Microseconds of this thread's CPU time per call, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        began = time.thread_time_ns()
        for _ in range(ROUNDS):
            step()
        best = min(best, (time.thread_time_ns() - began) / ROUNDS / 1000)
    return best


class Silent:
    """A socket that receives the same request again and again, and discards what is sent."""

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()  # for a descriptor that the selector accepts

    def fileno(self) -> int:
        return self.reader.fileno()

    def recv(self, size: int) -> bytes:
        return WRK

    def send(self, data: bytes) -> int:
        return len(data)


class Always(selectors.SelectSelector):
    """Reports every silent socket as readable."""

    def select(self, timeout: float | None = None) -> Any:
        return [(key, selectors.EVENT_READ) for key in self.get_map().values() if key.fileobj.__class__ is Silent]


def working(selector: selectors.BaseSelector | None = None) -> Worker:
    config = Config(hello, lifespan="off", access_log=False, log_config=None)
    worker = Worker(0, config, lambda: load(config), [], lambda *_: None, Loop(selector))
    worker.start()
    return worker


def under_load(connections: int = 64, seconds: float = 4) -> tuple[float, float]:
    """Microseconds of a server's CPU time per request: in user space, and in the kernel."""
    cpus = share(1)

    def used() -> list[int]:
        return [int(ticks) for ticks in fields(server.pid)[11:13]]  # utime and stime

    with (
        tempfile.TemporaryDirectory() as folder,
        on_cpus(cpus.server),
        Pounce(Setting(0, None, Path(folder)), "plain:hello") as server,
    ):
        request = Request(server.port, b"Hello, world!")
        wrk(request, connections, 1, cpus.load)
        before = used()
        count = wrk(request, connections, seconds, cpus.load).requests
        user, system = (TICK * 1e6 * (after - first) / count for first, after in zip(before, used(), strict=True))
    return user, system


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(
        prog="python -m stress profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    peer, sock = socket.socketpair()
    sock.setblocking(False)
    worker = working(Always())
    reader = RequestReader(Limits(), HeadCache())
    numbers = iter(range(sys.maxsize))
    writer = ResponseWriter(ResponseCache(), DefaultFields(worker.config, worker.loop).lines)
    request = RequestReader(Limits(), HeadCache()).next_request(WRK)
    assert request is not None
    worker.connect(Silent(), ("127.0.0.1", 1), ("127.0.0.1", 8000))  # type: ignore[arg-type]
    (connection,) = worker.connections

    async def discard(message: Any) -> None:
        pass

    def exchange() -> None:
        connection.handler = worker.context.handle(connection, request)  # type: ignore[union-attr]

    def respond() -> None:
        writer.start(request, 200, FIELDS)
        writer.body(b"Hello, world!", False)

    def transfer() -> None:
        peer.send(WRK)
        sock.recv(65536)

    def new_target(head: bytes) -> Callable[[], object]:
        first, _, rest = head.partition(b" HTTP")
        return lambda: reader.next_request(b"%b?%d HTTP%b" % (first, next(numbers), rest))

    stages: list[tuple[str, Callable[[], object]]] = [
        ("kernel: send and recv, without TCP", transfer),
        ("parse: wrk's head, seen before", lambda: reader.next_request(WRK)),
        ("parse: wrk's fields, another target", new_target(WRK)),
        ("parse: a browser's head, seen before", lambda: reader.next_request(BROWSER)),
        ("parse: a browser's fields, another target", new_target(BROWSER)),
        ("scope", lambda: http_scope(worker.service, connection.stream.peer, request)),  # type: ignore[union-attr]
        ("exchange: constructed and discarded", exchange),
        ("application alone, driven", lambda: spawn(worker.loop, hello({}, None, discard), lambda *_: None)),
        ("serialise", respond),
    ]
    python = f"{sys.version.split()[0]}{'' if sys._is_gil_enabled() else ' free-threaded'}"
    print(f"microseconds of CPU on CPython {python}")
    for name, step in stages:
        print(f"  {cost(step):6.2f}  {name}")
    connection.handler = None
    print(f"  {cost(worker.loop.turn):6.2f}  all of Python's part, for one request in a turn of its own")
    real = working()
    real.connect(sock, ("127.0.0.1", 1), ("127.0.0.1", 8000))

    def ask() -> None:
        peer.send(WRK)
        real.loop.turn()
        peer.recv(65536)

    print(f"  {cost(ask):6.2f}  the same with a pair of sockets, and the client's send and recv")
    if not tool("wrk"):
        print(f"not measured under load: {missing('wrk')}")
        return 0
    user, system = under_load()
    print(f"  {user:6.2f}  in user space, and {system:.2f} in the kernel: a server under wrk -c64")
    return 0
