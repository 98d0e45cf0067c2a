"""A generation: one version of the application and of the configuration, and how its workers run.

A worker belongs to one generation for its whole life. A slot has the generation of its worker, and its next worker is
of the same, until `Pool.roll` replaces it by another. A generation is immutable: any change makes a new one.

Owner: the supervisor's thread.
"""

import enum
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pounce.app.generations import LoadedGeneration
from pounce.app.loading import Loaded
from pounce.app.sharing import NeedsProcesses, Sharing
from pounce.app.types import Application
from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.kernel.loop import Loop
from pounce.net.listeners import Listener
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.supervisor.local import LocalWorker, RunHere
from pounce.supervisor.processes import ProcessWorker
from pounce.supervisor.threads import ThreadWorker
from pounce.worker.balance import Balancer
from pounce.worker.control import Report
from pounce.worker.readiness import Readiness


class Kind(enum.Enum):
    """What each worker has to itself."""

    THREAD = "thread"
    PROCESS = "process"


type Wrap = Callable[[Application, int], Application]
"""Puts something around the application of a generation, whose number is given too."""


class Surroundings(NamedTuple):
    """What workers of every generation are given. It belongs to the server."""

    loop: Loop
    """The supervisor's."""
    listeners: list[Listener]
    balancer: Balancer | None
    """What the workers know of each other; None: nothing."""
    readiness: Readiness
    own_sockets: Callable[[], Iterable[socket.socket]]
    """Open sockets of the supervisor alone, which a worker process must not hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    number: int
    config: Config
    application: Sharing | None
    """What the worker threads share. None: each worker process imports the application."""
    kind: Kind
    loaded: LoadedGeneration | None = None
    """The application's modules, where they were imported in this process."""
    wrap: Wrap | None = None
    """Is called on each worker thread."""

    def may_serve(self) -> str:
        """Its first worker is ready. Why it must not serve, though the generation before it does; empty: it may."""
        try:
            if self.application is not None:
                self.application.inspect(final=True)
        except (NeedsProcesses, StartupError) as error:
            return str(error)
        return ""

    def _wrapped(self, load: Callable[[], Loaded]) -> Callable[[], Loaded]:
        wrap = self.wrap
        if wrap is None:
            return load

        def load_and_wrap() -> Loaded:
            found = load()
            return Loaded(wrap(found.application, self.number), found.asgi_version, found.name)

        return load_and_wrap

    def make_worker(
        self,
        number: int,
        surroundings: Surroundings,
        on_report: OnReport,
        *,
        run_here: RunHere | None,
        on_threads_fail: Callable[[str], object] | None,
    ) -> WorkerHandle:
        """A worker of this generation for the slot `number`; it is not started. Raises StartupError where the
        application has no copy for it.

        `run_here` is given what runs a thread worker on the supervisor's own thread; None: it has a thread of its own.
        `on_threads_fail` is called with the reason, instead of `on_report`, where the worker shows that threads cannot
        run the application; None: its start is reported as that of any other worker."""
        loop, listeners, balancer, readiness, own_sockets = surroundings
        if balancer is not None and number >= balancer.size:
            balancer = None
        if self.application is None:
            return ProcessWorker(number, self.config, listeners, loop, on_report, balancer, readiness, own_sockets)
        application = self.application
        load, context = application.worker_copy(number)
        load = self._wrapped(load)
        if run_here is not None:
            own = context.copy()
            return LocalWorker(
                number,
                self.config,
                load,
                listeners,
                loop,
                on_report,
                lambda run: run_here(partial(own.run, run)),
                readiness,
            )

        def on_thread_report(report: Report) -> None:
            if report is Report.READY:
                application.ready(number)
            failed = (report is Report.LIFESPAN_UNSUPPORTED and application.lifespan_unsupported(number)) or (
                report is Report.START_FAILED and application.start_failed(number)
            )
            if failed and on_threads_fail is not None:
                failure = worker.start_failure
                on_threads_fail(f"it starts on one worker thread and not on worker {number + 1}: {failure}")
            else:
                on_report(report)

        worker = ThreadWorker(
            number, self.config, load, listeners, loop, on_thread_report, balancer, context,
            readiness=readiness, probing=on_threads_fail is not None and application.is_probe(number),
        )  # fmt: skip
        return worker
