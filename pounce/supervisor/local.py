"""A worker on the supervisor's own thread and loop: the only worker of a server, mostly.

What an application does with its thread works then as under any other server: `signal.signal` and
`loop.add_signal_handler` where that is the main thread, debuggers, libraries that insist on it. Supervisor and worker
take turns on one loop, so a request that blocks holds up the supervisor too; who looks on is `watch.WatchThread`.

Owner: the thread that called `Server.run`.
"""

import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

from pounce.app.loading import Loaded
from pounce.config.config import Config
from pounce.kernel.loop import Loop
from pounce.net.listeners import Listener
from pounce.observe import stacks
from pounce.supervisor.handle import OnReport
from pounce.supervisor.threads import WorkerInProcess
from pounce.worker.census import current_request
from pounce.worker.control import Report
from pounce.worker.worker import Worker

_DRIVERS = ("kernel.task", "aio.bridge", "aio.migration", "app.loading", "asgi.service")
"""The modules of the server that call the application."""


def possible() -> bool:
    """May a worker have this thread? Not where it runs an asyncio loop: only one can run on a thread."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is None or asyncio._get_running_loop() is None


def in_application(frame: FrameType | None) -> bool:
    """Is the code that a signal has interrupted there the application's, or of a library that it called?"""
    interrupted = frame
    while frame is not None:
        package, _, module = str(frame.f_globals.get("__name__")).partition(".")
        if package == "pounce":
            return frame is not interrupted and module in _DRIVERS
        frame = frame.f_back
    return False


class LocalWorker(WorkerInProcess):
    name = "the server's own thread"

    def __init__(
        self,
        number: int,
        config: Config,
        load: Callable[[], Loaded],
        listeners: list[Listener],
        loop: Loop,
        on_report: OnReport,
    ) -> None:
        def report(_worker: Worker, what: Report) -> None:
            loop.call_soon(lambda: on_report(what))

        super().__init__(Worker(number, config, load, listeners, report, loop))
        self._thread = threading.get_ident()

    def run(self) -> None:
        """Turns the loop that it shares with the supervisor until the worker has ended."""
        self._worker.run()

    def start(self) -> None:
        """Whoever turns the supervisor's loop calls `run` next."""

    def join(self) -> None:
        """It has ended before its report is heard."""

    def stand_in(self, number: int) -> None:
        """It has no board, and shares its only sockets with whoever may be there besides."""

    def step_back(self, number: int) -> None: ...

    def describe(self) -> tuple[str, str]:
        return current_request(self._worker), stacks.of(partial(signal.pthread_kill, self._thread))
