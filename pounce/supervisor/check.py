"""The check: a fresh process loads the application, and tells whether that works. It serves nothing.

Owner: the supervisor's thread.
"""

import os
import subprocess
from collections.abc import Callable

from pounce.kernel.loop import READ, Loop
from pounce.supervisor.inheritance import ONLY_LOAD, Command

MAX_OUTPUT = 65536
"""Bytes of its output that are kept."""


class Check:
    def __init__(self, loop: Loop, command: Command, on_end: Callable[[int, str], object]) -> None:
        """Starts the server's command. `on_end` is called on the loop with its exit code, as of `Popen`, and with what
        it has written. Raises OSError."""
        self._loop = loop
        self._on_end = on_end
        self._output = b""
        self._process = subprocess.Popen(
            command.arguments, cwd=command.folder, env=command.environment_with(**{ONLY_LOAD: "1"}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        loop.watch(self._pipe, READ, self._read)

    def _read(self, _events: int) -> None:
        try:
            data = os.read(self._pipe.fileno(), 65536)
        except BlockingIOError:
            return
        if data:
            self._output = (self._output + data)[-MAX_OUTPUT:]
            return
        self._loop.unwatch(self._pipe)
        self._pipe.close()
        self._on_end(self._process.wait(), self._output.decode(errors="replace"))

    def close(self) -> None:
        """Ends it, if it has not ended by itself."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if not self._pipe.closed:
            self._loop.unwatch(self._pipe)
            self._pipe.close()
