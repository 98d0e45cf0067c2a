"""A server that starts its successors: each new server process is found by its line in the log, and ended with the
test."""

import contextlib
import os
import re
import select
import signal
import threading
import time
from typing import Any

from tests.support.server import Running, get

# Says which version of its file is loaded.
VERSIONED = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"VERSION"})
"""


def write_version(folder, version, *, before=""):
    """The application `main:app` of this version; `before` stands at the top of its file."""
    (folder / "main.py").write_text(before + VERSIONED.replace("VERSION", version))


class Lineage(Running):
    """A server and the new server processes that follow on it, which all write to one log."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> None:
        # Python takes two versions of a file for the same that are of one size and were written within a second.
        super().__init__(*arguments, env={"PYTHONDONTWRITEBYTECODE": "1", **(env or {})}, **options)

    def end(self, timeout: float = 30.0) -> int:
        """The exit code of the first process. The log goes on with its successors."""
        code = self.wait_ended(timeout)
        return code if code >= 0 else 128 - code

    @property
    def pids(self) -> list[int]:
        return [int(found[1]) for line in self.lines if (found := re.search(r"Started server process \[(\d+)\]", line))]

    @property
    def newest(self) -> int:
        """The last that has taken over."""
        found = re.findall(r"The new server process \[(\d+)\] has taken over", self.log)
        return int(found[-1]) if found else self.pids[0]

    def order_upgrade(self) -> None:
        os.kill(self.newest, signal.SIGUSR2)

    def upgrade(self) -> int:
        """Has the newest process start another, and waits until that has taken over. Gives its number."""
        done = sum("has taken over" in line for line in self.lines)
        self.order_upgrade()
        self.wait_for("has taken over", count=done + 1)
        return self.newest

    def new_process(self) -> int:
        """The process that was started last, whether or not it got so far as to say so."""
        return int(re.findall(r"new server process \[(\d+)\]", self.log)[-1])

    def stop_newest(self) -> None:
        pid = self.newest
        os.kill(pid, signal.SIGTERM)
        wait_ended(pid)

    def __exit__(self, *details: object) -> None:
        for pid in self.pids:
            if pid != self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        super().__exit__(*details)


def wait_ended(pid: int, timeout: float = 30.0) -> None:
    """Waits for a process that is no child of this one, or not any more."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            assert select.select([fd], [], [], timeout)[0], f"process {pid} has not ended"
        finally:
            os.close(fd)


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    """Is it running? A process that has ended and was not waited for is not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Asking:
    """Clients that ask all the while, each request on a connection of its own or all on one."""

    def __init__(self, address, count=4) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.failures: list[str] = []
        self._address = address
        self._stopped = False
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stopped:
            try:
                self.answers.append(get(self._address))
            except (OSError, ValueError, IndexError) as error:
                self.failures.append(repr(error))

    def wait_for(self, content: bytes, timeout: float = 30.0) -> None:
        """Until a client has got this."""
        end = time.monotonic() + timeout
        while not any(content in answer for _, answer in self.answers[-100:]):
            assert time.monotonic() < end, (content, self.answers[-3:], self.failures[-3:])
            time.sleep(0.01)

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join(30)
