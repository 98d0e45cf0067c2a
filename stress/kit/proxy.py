"""HAProxy before servers of a scenario, configured as its manual recommends: health checks, redispatch, and another
attempt where no connection could be made (the default of retry-on) or the server has closed an idle one. It never sends
a request again that a server may have begun to serve.
"""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stress.kit.errors import Unmeasured
from stress.kit.load import tool
from stress.kit.pounce_server import Address, get
from stress.kit.scenario import Report

PAUSE = 900  # milliseconds; when its only server refuses a connection, HAProxy waits for a second
START = 30.0  # seconds until all servers are to be up
LINE = re.compile(r" pounce/\S+ \d+/(-?\d+)/\S+ (\d+) ")
"""A line of HAProxy's log: milliseconds of all attempts before the last one, and the status."""
CONFIG = """
global
    maxconn 4000
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s
    option redispatch
    retries 3
    option httpchk GET {check}
    default-server check inter 100ms fall 1 rise 1
frontend all
    bind 127.0.0.1:{port}
    default_backend pounce
frontend about
    bind 127.0.0.1:{about}
    stats enable
    stats uri /stats
backend pounce
    balance roundrobin
{servers}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@dataclass(frozen=True)
class Proxy:
    """A HAProxy that runs."""

    port: int
    about: int
    """The port of its statistics."""
    count: int
    """Servers behind it."""
    log: Path

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port

    def all_up(self) -> bool:
        """Does it consider all its servers up?"""
        rows = [line.split(",") for line in get(("127.0.0.1", self.about), "/stats;csv").decode().splitlines()]
        servers = [
            row for row in rows if len(row) > 17 and row[0] == "pounce" and row[1] not in ("FRONTEND", "BACKEND")
        ]
        return len(servers) == self.count == sum(row[17] == "UP" for row in servers)

    def report(self, report: Report) -> None:
        """Logs how often it had to wait, and the requests that it failed."""
        log = self.log.read_text(errors="replace")
        found = [(int(parts[1]), int(parts[2]), line) for line in log.splitlines() if (parts := LINE.search(line))]
        waits = [wait for wait, _, _ in found if wait >= PAUSE]
        report.log(f"the proxy waited before {len(waits)} requests, at most {max(waits, default=0) / 1e3:.2f} s")
        for line in [line for _, status, line in found if status >= 500][:5]:
            report.log(f"the proxy's log: {line}")


@contextlib.contextmanager
def haproxy(folder: Path, *ports: int, check: str = "/") -> Iterator[Proxy]:
    """A proxy that considers the servers at these ports up. `check`: what its health check asks for."""
    proxy = Proxy(free_port(), free_port(), len(ports), folder / "haproxy.log")
    servers = "\n".join(f"    server s{number} 127.0.0.1:{port}" for number, port in enumerate(ports))
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(port=proxy.port, about=proxy.about, check=check, servers=servers))
    with open(proxy.log, "wb") as output:
        process = subprocess.Popen([tool("haproxy") or "haproxy", "-f", str(config), "-db"], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        deadline = time.monotonic() + START
        while True:
            with contextlib.suppress(OSError, Unmeasured):
                if proxy.all_up():
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unmeasured(f"haproxy does not start: {proxy.log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        yield proxy
    finally:
        process.terminate()
        process.wait(30)
