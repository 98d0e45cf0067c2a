"""A worker on the supervisor's own thread and loop: of a server with a single worker.

What an application does with its thread works then as under any other server: `signal.signal` and
`loop.add_signal_handler` where that is the main thread, debuggers, libraries that insist on it. Supervisor and worker
share one loop, so a request that blocks holds up the supervisor, too; `watchdog.WatchdogThread` sees that.

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
from pounce.supervisor.threads import InProcessWorker
from pounce.worker.census import current_request
from pounce.worker.control import Report
from pounce.worker.readiness import Readiness
from pounce.worker.worker import Worker

type RunHere = Callable[[Callable[[], None]], object]
"""Given a function that turns the supervisor's loop until the worker has ended, to be called from outside the loop."""

_APPLICATION_CALLERS = ("kernel.task", "aio.bridge", "aio.migration", "app.loading", "asgi.service")
"""The modules of the server that call the application."""


def thread_is_free() -> bool:
    """May a worker have this thread? Not where it runs an asyncio loop: a thread can run only one."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is None or asyncio._get_running_loop() is None


def in_application(frame: FrameType | None) -> bool:
    """Is the code that a signal has interrupted there the application's, or of a library that it called?"""
    interrupted = frame
    while frame is not None:
        package, _, module = str(frame.f_globals.get("__name__")).partition(".")
        if package == "pounce":
            return frame is not interrupted and module in _APPLICATION_CALLERS
        frame = frame.f_back
    return False


class LocalWorker(InProcessWorker):
    name = "the server's own thread"

    def __init__(
        self,
        number: int,
        config: Config,
        load_application: Callable[[], Loaded],
        listeners: list[Listener],
        loop: Loop,
        on_report: OnReport,
        run_here: RunHere,
        readiness: Readiness,
    ) -> None:
        def post_report(_worker: Worker, report: Report) -> None:
            loop.call_soon(lambda: on_report(report))

        super().__init__(Worker(number, config, load_application, listeners, post_report, loop, readiness=readiness))
        self._thread = threading.get_ident()
        self._run_here = run_here

    def start(self) -> None:
        self._run_here(self._worker.run)

    def join(self) -> None:
        """It has ended before its report is read."""

    def accept_for(self, number: int) -> None:
        """It has no balancer, and shares its only sockets with any other worker."""

    def stop_accepting_for(self, number: int) -> None: ...

    def describe_block(self) -> tuple[str, str]:
        return current_request(self._worker), stacks.of(partial(signal.pthread_kill, self._thread))
