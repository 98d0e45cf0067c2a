"""A Pounce server from this checkout, for a scenario: started, inspected, and ended with all it has started."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stress.kit.errors import Unmeasured
from stress.kit.machine import memory, tree
from stress.kit.scenario import MIB, Setting

APPS = Path(__file__).parents[1] / "apps"
START = 60.0  # seconds a server may take until it listens, on a busy machine
END = 60.0  # seconds until it has ended: twice its graceful timeout
NOT_INHERITED = ("POUNCE_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")

Address = tuple[str, int]


@dataclass(frozen=True)
class Usage:
    """What a server with all its processes uses."""

    memory: int  # PSS, bytes
    fds: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory / MIB:.1f} MiB, {self.fds} fds, {self.threads} threads"


class Pounce:
    """`pounce APP` from this checkout, in a session of its own, which is killed when the context ends."""

    def __init__(
        self, setting: Setting, app: str = "busy:app", *options: str, workers: int = 1, port: int = 0,
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.command = [sys.executable, "-X", "faulthandler", "-m", "pounce", app, f"--workers={workers}",
                        "--no-access-log", *options]  # fmt: skip
        self.folder = setting.folder
        self.port = port
        self.host = "127.0.0.1"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        # The path comes first: the environment may have installed another checkout.
        self._env |= {"PYTHONPATH": str(APPS.parents[1]), "STRESS_FILE": str(sample_file(setting.folder))}
        self._env |= env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._logs: list[Path] = []

    def start(self) -> Self:
        self._logs.append(self.folder / f"pounce-{id(self)}-{len(self._logs)}.log")
        with open(self._logs[-1], "wb") as output:
            self._process = subprocess.Popen(
                [*self.command, f"--port={self.port}"], cwd=APPS, env=self._env, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._pid = self._process.pid
        deadline = time.monotonic() + START
        while (found := re.search(r"running on http://([\d.]+):(\d+)", self._last_log())) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unmeasured(f"pounce does not start:\n{self._last_log()}")
            time.sleep(0.02)
        self.host, self.port = found[1], int(found[2])
        return self

    __enter__ = start

    def _last_log(self) -> str:
        return self._logs[-1].read_text(errors="replace")

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The server's process; after an upgrade, the newest one's."""
        return self._pid

    @property
    def address(self) -> Address:
        return self.host, self.port

    @property
    def log(self) -> str:
        """The log of every start, joined."""
        return "".join(path.read_text(errors="replace") for path in self._logs)

    def worker_pids(self) -> list[int]:
        """The worker processes; with threads, the one process."""
        pids = [process.pid for process in tree(self.pid) if not process.ended]
        return pids if len(pids) == 1 else [pid for pid in pids if pid != self.pid]

    def usage(self) -> Usage:
        fds = threads = 0
        for process in tree(self.pid):
            with contextlib.suppress(OSError):
                fds += len(os.listdir(f"/proc/{process.pid}/fd"))
                threads += len(os.listdir(f"/proc/{process.pid}/task"))
        return Usage(memory(self.pid), fds, threads)

    def object_counts(self, timeout: float = 30.0) -> Counter[str]:
        """The server's own objects by type, counted by the application in each process. Raises Unmeasured."""
        missing, total = set(self.worker_pids()), Counter[str]()
        deadline = time.monotonic() + timeout
        while missing:
            counted = json.loads(get(self.address, "/objects"))
            if not (counted.get("HTTP1Connection") and counted.get("Exchange")):
                raise Unmeasured(f"the request that counts is not among the objects: {counted}")
            if (pid := counted.pop("pid")) in missing:
                missing.remove(pid)
                total.update(counted)
            if time.monotonic() > deadline:
                raise Unmeasured(f"processes {sorted(missing)} were not reached in {timeout:.0f} s")
        return total

    def wait_idle(self, timeout: float = 45.0) -> Counter[str]:
        """The objects when no connection is left but the one that asks in each process, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (counts := self.object_counts())["HTTP1Connection"] > len(self.worker_pids()):
            if time.monotonic() > deadline:
                return counts
            time.sleep(0.2)
        return counts

    def limit_descriptors(self, spare: int | None) -> None:
        """Lets each worker process open `spare` more descriptors than it has; None lifts the limit."""
        for pid in self.worker_pids():
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            soft = hard if spare is None else len(os.listdir(f"/proc/{pid}/fd")) + spare
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code. Raises Unmeasured when the server does not end."""
        os.kill(self.pid, number)
        return self._wait(number)

    def upgrade(self) -> int:
        """Sends SIGUSR2 and returns the exit code of the server that has ended, when its successor serves alone. Raises
        Unmeasured when it does not end, or leaves no successor. Orphans must become children of this process
        (`adopt_orphans`)."""
        old = self.pid
        os.kill(old, signal.SIGUSR2)
        code = self._wait(signal.SIGUSR2)
        left = [p.pid for p in tree(self.process.pid) if p.parent == os.getpid() and not p.ended and p.pid != old]
        if len(left) != 1:
            raise Unmeasured(f"process {old} has ended with {code} and left {len(left)} processes: {left}")
        self._pid = left[0]
        return code

    def _wait(self, number: int) -> int:
        """The exit code of the process, negative where a signal has ended it."""
        deadline = time.monotonic() + END
        first = self.pid == self.process.pid
        # The first process leads the session: it stays a zombie until the end where it has successors.
        options = os.WEXITED | os.WNOHANG | (os.WNOWAIT if first else 0)
        while (ended := os.waitid(os.P_PID, self.pid, options)) is None:
            if time.monotonic() > deadline:
                raise Unmeasured(f"pounce has not ended {END:.0f} s after signal {number}")
            time.sleep(0.01)
        if first and number != signal.SIGUSR2:
            self.process.wait()
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._logs:
            print("the end of the server's log:\n" + "\n".join(self._last_log().splitlines()[-20:]), flush=True)
        if self._process is not None:
            # Before it is waited for: until then the number of its process group is not used again.
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def sample_file(folder: Path) -> Path:
    """The file that the application sends for `/file`."""
    path = folder / "file"
    if not path.exists():
        path.write_bytes(bytes(range(256)) * 1024)
    return path


def get(address: Address, path: str, timeout: float = 30.0) -> bytes:
    """The content of a 200, on a new connection. Raises OSError and, for another status, Unmeasured."""
    with socket.create_connection(address, timeout) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] + b" ":
        raise Unmeasured(f"{path}: {answer[:200]!r}")
    return content
