"""Stacks of threads and child processes that do not answer, for the log.

It is asked by a signal. faulthandler's handler for it runs in C, in the very thread that is asked, and writes what
it finds there to a pipe: the thread may be in a system call, in a long computation, even in one that never gives
the GIL back. To look from outside would be less: without the GIL another thread's frames can go away while one
looks at them, and to stop the world waits for exactly the thread that does not answer.
"""

import faulthandler
import os
import select
import signal
import threading
from collections.abc import Callable

SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""The last real-time signal: as a rule nothing else uses it."""
FIRST, NEXT = 0.5, 0.02
"""Seconds to wait for the first line, on a machine under load, and for each further one."""

_PACKAGE = f'File "{os.path.dirname(os.path.dirname(__file__))}'
_FOREIGN = ("threading.py", "asyncio/base_events.py", "asyncio/runners.py", "asyncio/events.py", "<frozen ")

_lock = threading.Lock()  # two servers of one process may ask at the same time
_pipe: tuple[int, int] | None = None
"""Made once and never closed: a signal that arrives late must not write into another file of the same number."""


def prepare() -> tuple[int, int]:
    """Sets the handler, for this process and those it forks from now on."""
    global _pipe
    if _pipe is None:
        _pipe = os.pipe()
        for end in _pipe:
            os.set_blocking(end, False)
        faulthandler.register(SIGNAL, file=_pipe[1], all_threads=False)
    return _pipe


def of(ask: Callable[[int], object]) -> str:
    """The stack of the thread that gets the signal that `ask` sends, innermost line first, as lines of text; empty if
    none came. The frames of the server itself are left out."""
    with _lock:
        reader, _ = prepare()
        _read(reader, 0)  # what came too late for the last time
        try:
            ask(SIGNAL)
        except ProcessLookupError:  # it has ended meanwhile
            return ""
        text = _read(reader, FIRST)
    frames = [line for line in text.splitlines() if line.startswith("  File ")]
    own = [line for line in frames if _PACKAGE not in line and not any(part in line for part in _FOREIGN)]
    return "\n".join(own or frames)


def _read(reader: int, patience: float) -> str:
    data = b""
    while select.select([reader], [], [], patience)[0]:
        data += os.read(reader, 65536)
        patience = NEXT if patience else 0
    return data.decode(errors="replace")
