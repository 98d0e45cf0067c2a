"""The signals of the server's process.

    SIGINT, SIGTERM   stop, SIGTERM after --drain-delay; a second one ends the delay, or aborts
    SIGHUP            roll: workers that load the application anew. Where the terminal has closed: stop
    SIGUSR2           a new server process takes over the sockets, where this process is the server's alone
    SIGTTIN, SIGTTOU  one worker more, one worker less

A handler runs on the main thread, between any two of its instructions. It notes the signal and posts the rest to the
supervisor's loop. At once it does only one thing: it interrupts code of the application that keeps this thread from
turning that loop. This is the import, at every signal, and a request that blocks, at every signal after the first.

Owner: the main thread; the supervisor's, where another thread runs the server (see `embedding`).
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

from pounce.kernel.loop import Loop
from pounce.kernel.task import Interrupted
from pounce.supervisor.import_interrupt import ImportInterrupt
from pounce.supervisor.interpreter_exit import has_terminal, reset_signals_in_children
from pounce.supervisor.local import in_application
from pounce.supervisor.plan import Plan
from pounce.supervisor.pool import Pool

logger = logging.getLogger("pounce.error")

type Handler = Callable[[int, FrameType | None], object]


class SignalTarget(Protocol):
    """What signals are meant for. All but `on_signal` is called on the supervisor's loop."""

    def stop(self) -> None: ...

    def terminate(self) -> None:
        """SIGTERM: stop, but not before load balancers had time to learn of it."""

    def abort(self) -> None: ...

    def control(self, number: signal.Signals) -> None:
        """SIGHUP, SIGUSR2, SIGTTIN or SIGTTOU."""

    def on_signal(self, handled: Callable[[], bool]) -> None:
        """The server has to stop. `handled` tells whether the loop has read that. Called by the handler."""


class Signals:
    def __init__(self, loop: Loop, target: SignalTarget, *, may_upgrade: bool = False) -> None:
        """`may_upgrade`: SIGUSR2 is the server's, too."""
        self._loop = loop
        self._target = target
        self._may_upgrade = may_upgrade
        self.received: list[int] = []
        """SIGINT and SIGTERM, in the order of their arrival."""
        self.thread = 0
        """Runs the supervisor's loop."""
        self._import = ImportInterrupt()
        self._pending = False  # the loop has not handled the last signal yet
        self._had_terminal = False

    @contextlib.contextmanager
    def handling(self, on_exit: Handler, *, wakes_loop: bool) -> Iterator[None]:
        """Sets the handlers, on the main thread; elsewhere the signals are the program's that runs the server.
        `on_exit` handles SIGINT and SIGTERM, and passes them to `handle_exit`. `wakes_loop`: the supervisor's loop runs
        on this thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reset_signals_in_children()
        before = {number: signal.signal(number, on_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        self._had_terminal = has_terminal()
        controls = [signal.SIGTTIN, signal.SIGTTOU]
        if self._may_upgrade:
            controls.append(signal.SIGUSR2)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` ignores it
            controls.append(signal.SIGHUP)

        def on_control(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGHUP and self._had_terminal and not has_terminal():
                on_exit(number, frame)
            else:
                self._post(lambda: self._target.control(signal.Signals(number)))

        before |= {number: signal.signal(number, on_control) for number in controls}
        wakeup = signal.set_wakeup_fd(self._loop.wakeup_fd, warn_on_full_buffer=False) if wakes_loop else None
        try:
            yield
        finally:
            if wakeup is not None:
                signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def interrupting_import(self) -> contextlib.AbstractContextManager[None]:
        """The application is imported. Raises Interrupted at a signal, at the latest when the import is done."""
        return self._import.importing()

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        here = threading.get_ident() == self.thread
        self._import.signal(here=here)
        blocks = self._pending and here and in_application(frame)
        self._pending = True
        self._post(self._handle)
        self._target.on_signal(lambda: not self._pending)
        if blocks:
            raise Interrupted

    def _handle(self) -> None:
        self._pending = False
        if len(self.received) > 1:
            self._target.abort()
        elif self.received == [signal.SIGTERM]:
            self._target.terminate()
        else:
            self._target.stop()

    def _post(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.post(call)


def control(number: signal.Signals, pool: Pool, plan: Plan) -> None:
    """Does what SIGTTIN or SIGTTOU asks of a server that serves."""
    if number is signal.SIGTTIN:
        if why := plan.grow(pool.generation.application, len(pool.slots)):
            logger.warning("SIGTTIN is ignored: %s.", why)
        else:
            pool.add_worker()
            logger.info("SIGTTIN: one worker more, %d now.", pool.count)
    elif pool.count == 1:
        logger.warning("SIGTTOU is ignored: there is only one worker.")
    else:
        pool.remove_worker()
        logger.info("SIGTTOU: one worker less, %d now.", pool.count)
