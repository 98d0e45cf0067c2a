"""The check: a fresh process loads the application, and tells whether that works. It serves nothing.

It has ended when its process has. Its output may stay open for longer: the application may have started processes that
have inherited it.

Owner: the supervisor's thread.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable

from pounce.kernel.loop import READ, Loop, Timer
from pounce.supervisor.inheritance import ONLY_LOAD, Command

MAX_OUTPUT = 65536
"""Bytes of its output that are kept."""
REAP_INTERVAL = 0.05
"""Seconds between two looks at the process, on systems that do not tell when it has ended."""


class Check:
    def __init__(self, loop: Loop, command: Command, on_end: Callable[[int, str], object]) -> None:
        """Starts the server's command. `on_end` is called on the loop with its exit code, as of `Popen`, and with what
        it has written. Raises OSError."""
        self._loop = loop
        self._on_end = on_end
        self._output = b""
        self._closed = False
        self._process = subprocess.Popen(
            command.arguments, cwd=command.folder, env=command.environment_with(**{ONLY_LOAD: "1"}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        self._pidfd: int | None = None
        self._timer: Timer | None = None
        os.set_blocking(self._pipe.fileno(), False)
        loop.watch(self._pipe, READ, self._read)
        with contextlib.suppress(AttributeError, OSError):  # not Linux; no descriptor left
            self._pidfd = os.pidfd_open(self._process.pid)
            loop.watch(self._pidfd, READ, self._reap)
        if self._pidfd is None:
            self._timer = loop.call_later(REAP_INTERVAL, self._reap)

    def _read(self, _events: int = READ) -> None:
        if self._pipe.closed:
            return
        try:
            data = os.read(self._pipe.fileno(), MAX_OUTPUT)
        except BlockingIOError:
            return
        self._output = (self._output + data)[-MAX_OUTPUT:]
        if not data:
            self._close_pipe()

    def _reap(self, _events: int = READ) -> None:
        if self._closed:  # in the same turn
            return
        code = self._process.poll()
        if code is None:
            self._timer = self._loop.call_later(REAP_INTERVAL, self._reap) if self._pidfd is None else None
            return
        self._read()  # a pipe has no more in it than one read takes, and another process may write for ever
        self._close_descriptors()
        self._on_end(code, self._output.decode(errors="replace"))

    def _close_pipe(self) -> None:
        if not self._pipe.closed:
            self._loop.unwatch(self._pipe)
            self._pipe.close()

    def _close_descriptors(self) -> None:
        self._close_pipe()
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Ends it, if it has not ended by itself. `on_end` is not called any more."""
        self._closed = True
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close_descriptors()
