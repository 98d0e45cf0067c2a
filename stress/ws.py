"""What a WebSocket costs, beside uvicorn with `websockets` and with `wsproto`: python -m stress.ws

    echo      server CPU per message, of the whole process tree: small and large, text and binary, compressed
    idle      5,000 open sockets: memory of each (PSS), before and after a message
    shutdown  SIGTERM with 1,000 open sockets: what each is told, how long it takes, the exit code

All servers in turn, in rounds, so that a machine that is busy for a while is so for all; the middle of the rounds
counts. Everything that comes back is looked at.
"""

import argparse
import contextlib
import os
import selectors
import signal
import socket
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from stress import Unmeasured, peers
from stress.machine import Meter, memory, on_cpus, share
from stress.peers import Environment
from stress.scene import all_descriptors
from stress.servers import Running, Server, Setup, free_port, running

WHAT = ("echo", "idle", "shutdown")
CONNECTIONS = 8
WARM_UP = 0.3  # seconds
KEY = b"\x37\xfa\x21\x3d"  # one key for all: what comes back is what counts
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
JSON = b'{"id": %d, "kind": "message", "from": "somebody", "text": "what people say to each other"}, '
WORKLOADS = {  # first byte of the frame, payload
    "125 bytes, text": (0x81, b"x" * 125),
    "125 bytes, binary": (0x82, b"\xff" * 125),
    "64 KiB, text": (0x81, b"x" * 65536),
    "64 KiB, binary": (0x82, b"\xff" * 65536),
    "1 KiB, compressed": (0xC1, b"".join(JSON % number for number in range(12))[:1024]),
}


def _uvicorn(*more: str):
    def command(place: Environment, setup: Setup) -> list[str]:
        return [str(place.python), "-m", "uvicorn", setup.app, f"--port={setup.port}", "--no-access-log",
                "--log-level=warning", *more]  # fmt: skip

    return command


def _pounce(place: Environment, setup: Setup) -> list[str]:
    return [str(place.python), "-m", "pounce", setup.app, f"--port={setup.port}", "--no-access-log",
            "--log-level=warning"]  # fmt: skip


SERVERS = {server.name: server for server in (
    Server("pounce", "this checkout", ("pounce",), _pounce),
    Server("uvicorn-websockets", "", ("uvicorn", "websockets"), _uvicorn("--ws=websockets-sansio")),
    Server("uvicorn-wsproto", "", ("uvicorn", "wsproto"), _uvicorn("--ws=wsproto")),
)}  # fmt: skip


def environment(renew: bool = False) -> Environment:
    """The servers with all that makes them fast, uvloop and C extensions included, where there are wheels."""
    return peers.sockets(renew)


# A client


def frame(first: int, payload: bytes) -> bytes:
    if first & 0x40:
        compressor = zlib.compressobj(wbits=-12)
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8)
    return head + KEY + bytes(byte ^ KEY[place % 4] for place, byte in enumerate(payload))


class Client:
    def __init__(self, port: int, more: bytes = b"", window: int | None = None) -> None:
        """`window`: bytes that its kernel takes for it before it reads."""
        self.sock = socket.socket()
        if window is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(20)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(REQUEST + more + b"\r\n")
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Unmeasured(f"answers {head[:60]!r}")
        self.inflater = zlib.decompressobj(wbits=-15)

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise Unmeasured("closes a WebSocket")
        self.rest += data

    def read(self) -> tuple[int, bytes]:
        """The next frame: first byte and payload."""
        while len(self.rest) < 10 and len(self.rest) < 2 + self.rest[1] if len(self.rest) > 1 else True:
            self._more()
        size, start = self.rest[1], 2
        if size == 126:
            size, start = int.from_bytes(self.rest[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(self.rest[2:10]), 10
        while len(self.rest) < start + size:
            self._more()
        first, payload = self.rest[0], self.rest[start : start + size]
        self.rest = self.rest[start + size :]
        return first, payload

    def inflated(self, first: int, payload: bytes) -> bytes:
        return self.inflater.decompress(payload + b"\x00\x00\xff\xff") if first & 0x40 else payload


# Echo


def echo(name: str, alive: Running, port: int, seconds: float, cpus: frozenset[int], server: frozenset[int]) -> float:
    """Microseconds of server CPU per message."""
    first, payload = WORKLOADS[name]
    data = frame(first, payload)
    with on_cpus(cpus), contextlib.ExitStack() as open_:
        clients = [Client(port, DEFLATE if first & 0x40 else b"") for _ in range(CONNECTIONS)]
        for client in clients:
            open_.callback(client.sock.close)
            client.sock.sendall(data)
            seen = client.read()
            if client.inflated(*seen) != payload:
                raise Unmeasured(f"does not say back {name}")
        size = 0 if first & 0x40 else len(payload) + (2 if len(payload) < 126 else 10)
        rounds(clients, data, size, WARM_UP)
        meter = Meter(alive.pid, server)
        count = rounds(clients, data, size, seconds)
        meter.stop()
    return meter.used / count * 1e6


def rounds(clients: list[Client], data: bytes, size: int, seconds: float) -> int:
    """Lets all clients say one thing and hear it back, again and again. How many messages that were."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for client in clients:
            client.sock.sendall(data)
        for client in clients:
            if not size:
                client.inflater.decompress(client.read()[1] + b"\x00\x00\xff\xff")
                continue
            left = size
            while left:
                got = len(client.sock.recv(left))
                if not got:
                    raise Unmeasured("closes a WebSocket")
                left -= got
        count += len(clients)
    return count


# Idle, and shutdown


@contextlib.contextmanager
def opened(port: int, count: int) -> Iterator[list[Client]]:
    clients: list[Client] = []
    try:
        for _ in range(count):
            clients.append(Client(port))
        yield clients
    finally:
        for client in clients:
            client.sock.close()


def idle(alive: Running, port: int, count: int) -> tuple[float, float]:
    """KiB of each socket: after the handshake, and after each has had a message."""
    data = frame(*WORKLOADS["125 bytes, text"])
    with opened(port, 50):
        pass
    time.sleep(1)
    before = memory(alive.pid)
    with opened(port, count) as clients:
        time.sleep(1)
        fresh = memory(alive.pid)
        for client in clients:
            client.sock.sendall(data)
            client.read()
        time.sleep(1)
        used = memory(alive.pid)
    return (fresh - before) / count / 1024, (used - before) / count / 1024


def shutdown(alive: Running, port: int, count: int) -> str:
    with opened(port, count) as clients, selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ, client)
        began = time.monotonic()
        os.kill(alive.pid, signal.SIGTERM)
        codes: dict[str, int] = {}
        told = 0.0
        while selector.get_map() and time.monotonic() < began + 60:
            for key, _ in selector.select(1):
                client = key.data
                selector.unregister(client.sock)
                try:
                    first, payload = client.read()
                    code = str(int.from_bytes(payload[:2])) if first == 0x88 else f"frame {first:#x}"
                    client.sock.sendall(frame(0x88, payload))
                except (OSError, Unmeasured):
                    code = "nothing"
                codes[code] = codes.get(code, 0) + 1
                told = time.monotonic() - began
    os.waitid(os.P_PID, alive.pid, os.WEXITED | os.WNOWAIT)
    gone = time.monotonic() - began
    return f"told {codes} within {told:.2f} s, gone after {gone:.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(WHAT)}; without: all")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--open", type=int, default=1000)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=[*SERVERS])
    parser.add_argument("--renew", action="store_true", help="make the environment of the servers again")
    options = parser.parse_args()
    if unknown := set(options.what).difference(WHAT):
        parser.error(f"not one of {', '.join(WHAT)}: {', '.join(unknown)}")
    options.what = options.what or WHAT
    all_descriptors()
    place, cpus = environment(options.renew), share(1)
    print(f"{peers.TAG}, {cpus}; {', '.join(f'{n} {v}' for n, v in sorted(place.versions.items()))}")
    servers = [SERVERS[name] for name in options.servers if not place.lacks(SERVERS[name].needs)]
    with tempfile.TemporaryDirectory(prefix="pounce-ws-") as scratch:

        @contextlib.contextmanager
        def started(server: Server) -> Iterator[tuple[Running, int]]:
            setup = Setup("sockets:echo", free_port(), Path(scratch))
            with running(server, place, setup, cpus.server) as alive:
                yield alive, setup.port

        if "echo" in options.what:
            show_echo(servers, started, options, cpus)
        for server in servers:
            if "idle" in options.what:
                with started(server) as (alive, port):
                    fresh, used = idle(alive, port, options.idle)
                print(f"idle      {server.name:20} {fresh:6.1f} KiB each, {used:6.1f} after a message", flush=True)
            if "shutdown" in options.what:
                with started(server) as (alive, port):
                    print(f"shutdown  {server.name:20} {shutdown(alive, port, options.open)}", flush=True)
    return 0


def show_echo(servers, started, options, cpus) -> None:
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for server in servers:
            with started(server) as (alive, port):
                for name in WORKLOADS:
                    used = echo(name, alive, port, options.seconds, cpus.load, cpus.server)
                    figures.setdefault((name, server.name), []).append(used)
    print("echo, us of server CPU per message" + "".join(f"{server.name:>22}" for server in servers))
    for name in WORKLOADS:
        cells = [figures[name, server.name] for server in servers]
        row = "".join(f"{statistics.median(c):9.1f} ({min(c):.0f}-{max(c):.0f})".rjust(22) for c in cells)
        print(f"          {name:24}{row}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unmeasured as error:
        sys.exit(f"ws: {error}")
