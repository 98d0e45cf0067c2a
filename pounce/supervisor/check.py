"""The check: a fresh process loads the application, and tells whether that works. It serves nothing.

It has ended when its process has. Its output may stay open for longer: the application may have started processes that
have inherited it.

Owner: the supervisor's thread.
"""

import os
import subprocess
from collections.abc import Callable

from pounce.kernel.loop import READ, Loop
from pounce.supervisor.inheritance import ONLY_LOAD, Command
from pounce.supervisor.process_end import ProcessEnd

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
        self._end = ProcessEnd(loop, self._process, self._ended)

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

    def _ended(self, code: int) -> None:
        self._read()  # a pipe has no more in it than one read takes, and another process may write for ever
        self._close_pipe()
        self._on_end(code, self._output.decode(errors="replace"))

    def _close_pipe(self) -> None:
        if not self._pipe.closed:
            self._loop.unwatch(self._pipe)
            self._pipe.close()

    def close(self) -> None:
        """Ends it, if it has not ended by itself. `on_end` is not called any more."""
        self._end.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close_pipe()
