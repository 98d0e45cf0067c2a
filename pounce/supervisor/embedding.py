"""A server inside a program that runs an asyncio loop: the server runs on another thread, and its end is awaited.

Owner: the thread that awaits. It takes nothing from the server but its end.
"""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from pounce.kernel.task import Wait, Waiter


class EmbeddedServer(Protocol):
    """What is used here of a `Server`."""

    should_exit: bool
    ended_by: int | None

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None: ...

    def handling_signals(self, *, wakes_loop: bool = True) -> contextlib.AbstractContextManager[None]: ...


class ServerEnd(Wait):
    """Awaiting it calls `run` on a thread of its own and gives what that has raised, or None. A wait that was cancelled
    may be taken up again."""

    __slots__ = ("_run", "_running")

    def __init__(self, run: Callable[[], object]) -> None:
        super().__init__()
        self._run = run
        self._running = False

    def park(self, task: Waiter) -> None:
        super().park(task)
        if self._running:
            return
        self._running = True
        loop = task.loop

        def call() -> None:
            error: BaseException | None = None
            try:
                self._run()
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the awaiting loop is closed
                loop.post(lambda: self.wake(error))

        threading.Thread(target=call, name="pounce-server", daemon=True).start()


async def serve(server: EmbeddedServer, sockets: Sequence[socket.socket] | None) -> None:
    """See `Server.serve`."""
    import pounce.aio.bridge  # lets a wait be awaited in the caller's loop  # noqa: F401

    ended = ServerEnd(lambda: server.run(sockets))
    with server.handling_signals(wakes_loop=False):
        try:
            error: BaseException | None = await ended
        except BaseException:
            server.should_exit = True
            await ended
            raise
    if error is not None:
        raise error
    if server.ended_by is not None:
        signal.raise_signal(server.ended_by)
