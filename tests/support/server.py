"""The server as its users start it: a process of its own, with its log, its signals and its exit code."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pounce.supervisor.plan import has_gil

APPS = Path(__file__).parent.parent / "apps"


class Running:
    """`pounce ARGUMENTS` in a process of its own, or the Python program `script`. Waits until it runs or has ended."""

    def __init__(
        self, *arguments: str, ready: bool = True, cwd: Path = APPS, env: dict[str, str] | None = None,
        script: Path | None = None, python: str = sys.executable, prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """`script`: what Python executes instead of the package. `prefix`: the words of a command that runs Python."""
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [*prefix, python, *(("-m", "pounce") if script is None else (str(script),)), *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if ready:
            try:
                self.wait_for("Pounce running on")
            except BaseException:  # nobody else will end it
                self.process.kill()
                raise

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, words: str, timeout: float = 30.0, count: int = 1) -> str:
        """The `count`-th line with these words in it, as soon as it is there."""
        end = time.monotonic() + timeout
        with self._news:
            while True:
                found = [line for line in self.lines if words in line]
                if len(found) >= count:
                    return found[count - 1]
                if time.monotonic() > end or not self._reader.is_alive():
                    raise AssertionError(f"no {words!r} in:\n" + "\n".join(self.lines))
                self._news.wait(0.1)

    @property
    def address(self) -> tuple[str, int]:
        found = re.search(r"http://([\d.]+):(\d+)", self.wait_for("Pounce running on"))
        assert found
        return found[1], int(found[2])

    @property
    def admin(self) -> tuple[str, int]:
        """The address of the admin listener."""
        found = re.search(r"http://([\d.]+):(\d+)", self.wait_for("Admin listener on"))
        assert found
        return found[1], int(found[2])

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    def wait_until_busy(self, address: tuple[str, int]) -> None:
        """Waits until what was sent before has surely reached the application: until every worker's queue is
        taken. Asks the kernel, not the server, which may be blocked."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with open("/proc/net/tcp") as file:
                rows = [line.split() for line in file.readlines()[1:]]
            port = f":{address[1]:04X}"
            unread = [row for row in rows if row[1].endswith(port) and row[3] == "01" and row[4][9:] != "00000000"]
            queued = [row for row in rows if row[1].endswith(port) and row[3] == "0A" and row[4][9:] != "00000000"]
            if not unread and not queued:
                return
            time.sleep(0.01)
        raise AssertionError("the server does not take what was sent")

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_ended(self, timeout: float) -> int:
        """Waits for the process. AssertionError with the log where it does not end."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end:\n" + self.log) from None

    def end(self, timeout: float = 30.0) -> int:
        """The exit code, as a shell would show it."""
        code = self.wait_ended(timeout)
        self._reader.join(timeout)
        return code if code >= 0 else 128 - code

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        self.send_signal(number)
        return self.end(timeout)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        with contextlib.suppress(Exception):
            self.process.stdout.close()  # type: ignore[union-attr]


def ask(address: tuple[str, int] | str, data: bytes, timeout: float = 30.0) -> bytes:
    """Sends `data` on a connection of its own and reads until the server closes it."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def get(address: tuple[str, int] | str, path: str = "/") -> tuple[int, bytes]:
    answer = ask(address, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), content


def begin(address, path, version="1.1"):
    """A request that nobody has answered yet."""
    client = socket.create_connection(address, timeout=30)
    client.sendall(f"GET {path} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    return client


def single(workers):
    """Is the server one process?"""
    return workers == "1" or not has_gil()
