"""A worker on a thread of this process: the supervisor's side.

Owner: the supervisor's thread. Orders are posted to the worker's loop, reports to the supervisor's.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial

from pounce.app.loading import Loaded
from pounce.config.config import Config
from pounce.kernel.loop import Loop
from pounce.net.listeners import Listener
from pounce.observe import stacks
from pounce.supervisor.handle import OnReport, WorkerHandle
from pounce.worker.balance import Balancer
from pounce.worker.census import InFlight, current_request, in_flight, running
from pounce.worker.control import Report
from pounce.worker.readiness import Readiness
from pounce.worker.worker import Worker


class InProcessWorker:
    """A worker of this process, on whichever thread."""

    hung = False  # what keeps every thread from answering keeps the supervisor from asking

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.number = worker.number

    def serve(self) -> None:
        self._post(self._worker.serve)

    def retire(self, heir: WorkerHandle | None = None, *, hurry: bool = False) -> None:
        to = heir._worker if isinstance(heir, InProcessWorker) else None
        self._post(partial(self._worker.retire, to, hurry=hurry))

    def stop(self) -> None:
        self._post(self._worker.stop)

    def cancel(self) -> None:
        self._post(self._worker.cancel)

    def abort(self) -> None:
        self._post(self._worker.abort)

    def _post(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended, and its report is on the way
            self._worker.loop.post(call)

    def kill(self) -> bool:
        """A thread cannot be ended from outside."""
        return False

    def blocked_for(self, now: float) -> float:
        return now - self._worker.loop.busy_since

    def running(self) -> int:
        return running(self._worker)

    def in_flight(self) -> InFlight:
        return in_flight(self._worker)

    def give_up(self) -> None:
        """If it turns its loop again, it drains and ends like one that retires."""
        self.retire()

    @property
    def exit_code(self) -> int | None:
        return self._worker.exit_code


class ThreadWorker(InProcessWorker):
    def __init__(
        self,
        number: int,
        config: Config,
        load_application: Callable[[], Loaded],
        listeners: list[Listener],
        loop: Loop,
        on_report: OnReport,
        balancer: Balancer | None,
        context: Context,
        *,
        readiness: Readiness | None = None,
        probing: bool = False,
    ) -> None:
        """`context` is the one in which the application was imported; the worker runs in a copy of it. `probing`: a
        start that fails is not logged, because its report decides what follows."""

        def post_report(_worker: Worker, report: Report) -> None:  # on the worker's thread
            loop.post(lambda: on_report(report))

        super().__init__(
            Worker(number, config, load_application, listeners, post_report, balancer=balancer, readiness=readiness)
        )
        self._worker.lifespan.probing = probing
        self._context = context.copy()
        self._thread = threading.Thread(target=self._run, name=f"pounce-worker-{number + 1}", daemon=True)
        self.name = f"thread {self._thread.name}"

    def _run(self) -> None:
        # A thread is a daemon where its starter is one. A thread that the application starts here must not be one:
        # under other servers, and in a worker process, its starter is the main thread, and the exit waits for it.
        threading.current_thread()._daemonic = False  # type: ignore[attr-defined]  # it has started as a daemon
        self._context.run(self._run_in_context)

    def _run_in_context(self) -> None:
        if (decimal := sys.modules.get("decimal")) is not None:
            # The only thing in a context that is changed in place. In a new thread it would be the thread's own.
            decimal.setcontext(decimal.getcontext().copy())
        self._worker.run()
        self._worker.loop.close()

    @property
    def start_failure(self) -> str:
        """Why the application has not started here."""
        return self._worker.lifespan.reason

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def accept_for(self, number: int) -> None:
        self._post(lambda: self._worker.intake.accept_for(number))

    def stop_accepting_for(self, number: int) -> None:
        self._post(lambda: self._worker.intake.stop_accepting_for(number))

    def describe_block(self) -> tuple[str, str]:
        ident = self._thread.ident
        assert ident is not None
        return current_request(self._worker), stacks.of(partial(signal.pthread_kill, ident))
