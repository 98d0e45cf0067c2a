"""Tells when a child process has ended, however long others keep its pipes open.

Owner: the supervisor's thread.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable

from pounce.kernel.loop import READ, Loop, Timer

REAP_INTERVAL = 0.05
"""Seconds between two looks at the process, on systems that do not tell when it has ended."""


class ProcessEnd:
    def __init__(self, loop: Loop, process: "subprocess.Popen[bytes]", on_end: Callable[[int], object]) -> None:
        """`on_end` is called on the loop, once, with the exit code as of `Popen`."""
        self._loop = loop
        self._process = process
        self._on_end = on_end
        self._pidfd: int | None = None
        self._timer: Timer | None = None
        self._closed = False
        with contextlib.suppress(AttributeError, OSError):  # not Linux; no descriptor left
            self._pidfd = os.pidfd_open(process.pid)
            loop.watch(self._pidfd, READ, self._look)
        if self._pidfd is None:
            self._timer = loop.call_later(REAP_INTERVAL, self._look)

    def _look(self, _events: int = READ) -> None:
        if self._closed:  # in the same turn
            return
        code = self._process.poll()
        if code is not None:
            self.close()
            self._on_end(code)
        elif self._pidfd is None:
            self._timer = self._loop.call_later(REAP_INTERVAL, self._look)

    def close(self) -> None:
        """`on_end` is not called any more. May be called again."""
        self._closed = True
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._timer is not None:
            self._timer.cancel()
