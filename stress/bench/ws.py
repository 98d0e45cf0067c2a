"""The cost of WebSockets, beside uvicorn with `websockets` and with `wsproto`.

    echo      server CPU per message, of the whole process tree: small and large, text and binary, compressed
    idle      5,000 open WebSockets: memory of each (PSS), before and after a message
    shutdown  SIGTERM with 1,000 open WebSockets: the codes of their Closes, and how long the server takes

Every server is measured once in each round, and the median of the rounds is shown, so that a machine that is busy for a
while is so for all servers. The content of what is echoed is checked.
"""

import argparse
import contextlib
import os
import selectors
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stress.kit import environments
from stress.kit.errors import Unmeasured
from stress.kit.machine import Meter, memory, on_cpus, raise_descriptor_limit, share
from stress.kit.servers import Running, Server, Setup, free_port, running
from stress.kit.websockets import DEFLATE, SERVERS, Client, find_environment, frame

WHAT = ("echo", "idle", "shutdown")
CONNECTIONS = 8
WARM_UP = 0.3  # seconds
JSON = b'{"id": %d, "kind": "message", "from": "a client", "text": "messages repeat many of their words"}, '
WORKLOADS = {  # first byte of the frame, payload
    "125 bytes, text": (0x81, b"x" * 125),
    "125 bytes, binary": (0x82, b"\xff" * 125),
    "64 KiB, text": (0x81, b"x" * 65536),
    "64 KiB, binary": (0x82, b"\xff" * 65536),
    "1 KiB, compressed": (0xC1, b"".join(JSON % number for number in range(12))[:1024]),
}


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
                raise Unmeasured(f"does not echo {name}")
        size = 0 if first & 0x40 else len(payload) + (2 if len(payload) < 126 else 10)
        rounds(clients, data, size, WARM_UP)
        meter = Meter(alive.pid, server)
        count = rounds(clients, data, size, seconds)
        meter.stop()
    return meter.used / count * 1e6


def rounds(clients: list[Client], data: bytes, size: int, seconds: float) -> int:
    """Every client sends the message and receives its echo, again and again. Returns the number of messages."""
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


# Idle and shutdown


@contextlib.contextmanager
def open_clients(port: int, count: int) -> Iterator[list[Client]]:
    clients: list[Client] = []
    try:
        for _ in range(count):
            clients.append(Client(port))
        yield clients
    finally:
        for client in clients:
            client.sock.close()


def idle(alive: Running, port: int, count: int) -> tuple[float, float]:
    """KiB of each WebSocket: after the handshake, and after one message."""
    data = frame(*WORKLOADS["125 bytes, text"])
    with open_clients(port, 50):
        pass
    time.sleep(1)
    before = memory(alive.pid)
    with open_clients(port, count) as clients:
        time.sleep(1)
        fresh = memory(alive.pid)
        for client in clients:
            client.sock.sendall(data)
            client.read()
        time.sleep(1)
        used = memory(alive.pid)
    return (fresh - before) / count / 1024, (used - before) / count / 1024


def shutdown(alive: Running, port: int, count: int) -> str:
    with open_clients(port, count) as clients, selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ, client)
        began = time.monotonic()
        os.kill(alive.pid, signal.SIGTERM)
        codes: dict[str, int] = {}
        closed = 0.0
        while selector.get_map() and time.monotonic() < began + 60:
            for key, _ in selector.select(1):
                client = key.data
                selector.unregister(client.sock)
                try:
                    first, payload = client.read()
                    code = str(int.from_bytes(payload[:2])) if first == 0x88 else f"frame {first:#x}"
                    client.sock.sendall(frame(0x88, payload))
                except (OSError, Unmeasured):
                    code = "no Close"
                codes[code] = codes.get(code, 0) + 1
                closed = time.monotonic() - began
    os.waitid(os.P_PID, alive.pid, os.WEXITED | os.WNOWAIT)
    ended = time.monotonic() - began
    return f"closed with {codes} within {closed:.2f} s, server ended after {ended:.2f} s"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stress ws", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(WHAT)} (default: all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement of echo (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of echo (default: 3)")
    parser.add_argument("--idle", type=int, default=5000, help="WebSockets (default: 5000)")
    parser.add_argument("--open", type=int, default=1000, help="WebSockets at shutdown (default: 1000)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=[*SERVERS])
    parser.add_argument("--renew", action="store_true", help="install the servers again, in their newest versions")
    options = parser.parse_args(arguments)
    if unknown := set(options.what).difference(WHAT):
        parser.error(f"not one of {', '.join(WHAT)}: {', '.join(unknown)}")
    options.what = options.what or WHAT
    raise_descriptor_limit()
    environment, cpus = find_environment(options.renew), share(1)
    print(f"{environments.TAG}, {cpus}; {', '.join(f'{n} {v}' for n, v in sorted(environment.versions.items()))}")
    servers = [SERVERS[name] for name in options.servers if not environment.lacks(SERVERS[name].needs)]
    with tempfile.TemporaryDirectory(prefix="pounce-ws-") as scratch:

        @contextlib.contextmanager
        def started(server: Server) -> Iterator[tuple[Running, int]]:
            setup = Setup("sockets:echo", free_port(), Path(scratch))
            with running(server, environment, setup, cpus.server) as alive:
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
