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
from stress.kit.machine import FIRST, memory, set_session_priority, tree
from stress.kit.scenario import MIB, Setting

APPS = Path(__file__).parents[1] / "apps"
START = 60.0  # seconds a server may take until it listens, on a busy machine
END = 60.0  # seconds it may take to end; its own patience with running requests is half of that
FOREIGN = ("POUNCE_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")

Address = tuple[str, int]


@dataclass(frozen=True)
class Vitals:
    """What a server, with all its processes, holds of the machine."""

    memory: int  # PSS, bytes
    fds: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory / MIB:.1f} MiB, {self.fds} fds, {self.threads} threads"


class Pounce:
    """`pounce APP` from this checkout, in a session of its own. Ended, with all it has started, when left."""

    def __init__(
        self, setting: Setting, app: str = "busy:app", *options: str, workers: int = 1, port: int = 0,
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.command = [sys.executable, "-X", "faulthandler", "-m", "pounce", app, f"--workers={workers}",
                        "--no-access-log", *options]  # fmt: skip
        self.folder = setting.folder
        self.port = port
        self.host = "127.0.0.1"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        # This checkout, whichever the environment has installed.
        self._env |= {"PYTHONPATH": str(APPS.parent.parent), "STRESS_FILE": str(a_file(setting.folder)), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._logs: list[Path] = []

    def start(self) -> Self:
        self._logs.append(self.folder / f"pounce-{id(self)}-{len(self._logs)}.log")
        with open(self._logs[-1], "wb") as output:
            self._process = subprocess.Popen(
                [*self.command, f"--port={self.port}"], cwd=APPS, env=self._env, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
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
        return self.process.pid

    @property
    def address(self) -> Address:
        return self.host, self.port

    @property
    def log(self) -> str:
        """Everything that was said, by all that were started in turn."""
        return "".join(path.read_text(errors="replace") for path in self._logs)

    def worker_pids(self) -> list[int]:
        """The processes that serve."""
        pids = [process.pid for process in tree(self.pid)]
        return pids if len(pids) == 1 else [pid for pid in pids if pid != self.pid]

    def vitals(self) -> Vitals:
        fds = threads = 0
        for process in tree(self.pid):
            with contextlib.suppress(OSError):
                fds += len(os.listdir(f"/proc/{process.pid}/fd"))
                threads += len(os.listdir(f"/proc/{process.pid}/task"))
        return Vitals(memory(self.pid), fds, threads)

    def census(self, patience: float = 30.0) -> Counter[str]:
        """The server's own objects by type, counted in every one of its processes by the application."""
        missing, total = set(self.worker_pids()), Counter[str]()
        deadline = time.monotonic() + patience
        while missing:
            counted = json.loads(get(self.address, "/census"))
            if (pid := counted.pop("pid")) in missing:
                missing.remove(pid)
                total.update(counted)
            if time.monotonic() > deadline:
                raise Unmeasured(f"processes {sorted(missing)} were not reached in {patience:.0f} s")
        return total

    def quiet(self, patience: float = 45.0) -> Counter[str]:
        """The census when every connection but the census's own is gone, or when patience is."""
        deadline = time.monotonic() + patience
        while (census := self.census())["HTTP1Connection"] > len(self.worker_pids()):
            if time.monotonic() > deadline:
                return census
            time.sleep(0.2)
        return census

    def limit_descriptors(self, room: int | None) -> None:
        """Leaves each process room for so many more descriptors than it has; None takes the limit back."""
        for pid in self.worker_pids():
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            soft = hard if room is None else len(os.listdir(f"/proc/{pid}/fd")) + room
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    def go_first(self) -> None:
        """Lets it run before others on the machine, where that is allowed: a neighbour's load is no attack's."""
        for process in tree(self.pid):
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, int(thread), FIRST)
        set_session_priority(self.pid, FIRST)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Asks it to end, and gives its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(END)
        except subprocess.TimeoutExpired:
            raise Unmeasured(f"pounce has not ended {END:.0f} s after signal {number}") from None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._logs:
            print("the server's last words:\n" + "\n".join(self._last_log().splitlines()[-20:]), flush=True)
        if self._process is not None:
            # Not waited for before: the number of a zombie's group stays its own.
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def a_file(folder: Path) -> Path:
    """What `/file` sends."""
    path = folder / "file"
    if not path.exists():
        path.write_bytes(bytes(range(256)) * 1024)
    return path


def get(address: Address, path: str, timeout: float = 30.0) -> bytes:
    """Asks on a connection of its own, and gives the content of the answer. Raises OSError, Unmeasured."""
    with socket.create_connection(address, timeout) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] + b" ":
        raise Unmeasured(f"{path}: {answer[:200]!r}")
    return content
