"""A worker process, from the fork to its exit.

It is connected to the supervisor by two pairs of sockets. On the control pair each message is one byte, some with a
number behind it; the worker's loop reads it. On the side channel a thread answers when the loop does not turn.
When the supervisor dies, both pairs end: the worker stops in order, and if it cannot, the side channel's thread ends
the process.

Owner: the main thread of the process.
"""

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

from pounce.app.loading import Loaded, load
from pounce.config.config import Config
from pounce.errors import exit_code
from pounce.kernel.loop import READ, Loop
from pounce.kernel.task import Interrupted
from pounce.net.listeners import Listener
from pounce.supervisor.import_interrupt import ImportInterrupt
from pounce.supervisor.interpreter_exit import end_interpreter, exit_now
from pounce.worker.balance import Balancer
from pounce.worker.census import current_request, in_flight
from pounce.worker.control import Report
from pounce.worker.readiness import Readiness
from pounce.worker.worker import CANCEL_GRACE, Worker

REPORT_OF_CODE = {
    b"r": Report.READY, b"f": Report.START_FAILED, b"t": Report.WANTS_SUCCESSOR, b"c": Report.LOOP_FAILED,
    b"e": Report.ENDED, b"u": Report.LIFESPAN_UNSUPPORTED, b"l": Report.LIFESPAN_ENDING, b"d": Report.LIFESPAN_ENDED,
    b"n": Report.LIFESPAN_END_FAILED,
}  # fmt: skip
CODE_OF_REPORT = {report: code for code, report in REPORT_OF_CODE.items()}

SERVE, RETIRE, HURRY, STOP, CANCEL, ABORT = b"s", b"r", b"h", b"x", b"k", b"a"
COMMANDS: dict[bytes, Callable[[Worker], object]] = {
    SERVE: Worker.serve,
    RETIRE: Worker.retire,
    HURRY: lambda worker: worker.retire(hurry=True),
    STOP: Worker.stop,
    CANCEL: Worker.cancel,
    ABORT: Worker.abort,
}
ALIVE = b"p"
"""A question to the child's loop, and the loop's answer: it turns. In the answer, COUNT_BYTES with the number of its
requests in flight follow."""
COUNT_BYTES = 4
TERMINATED = b"q"
"""From the child: another process than the supervisor has sent it SIGTERM."""
ACCEPT_FOR, STOP_ACCEPTING_FOR = b"+", b"-"
"""To the child, with a slot's number in two bytes."""
ASK_REQUEST, ASK_IN_FLIGHT = b"?", b"u"
"""On the side channel. The answer to ASK_IN_FLIGHT ends in a newline; after that question no other is asked."""


def run_child(
    number: int, config: Config, listeners: list[Listener], control: socket.socket, side_channel: socket.socket,
    parents: Loop, balancer: Balancer | None, readiness: Readiness, own_sockets: Callable[[], Iterable[socket.socket]],
    mask: set[signal.Signals | int],
) -> NoReturn:  # fmt: skip
    """The life of a worker process, in the slot `number`. Never returns: the frames above belong to the supervisor.

    `parents` is the copy of the supervisor's loop, `own_sockets` are the supervisor's alone, and `mask` is the signal
    mask to restore once the handlers are set."""
    code, timeout, forced = 1, config.timeout_graceful_shutdown, False
    try:
        atexit._clear()  # what the parent registered is the parent's to do
        if (util := sys.modules.get("multiprocessing.util")) is not None:  # but pools of the child's own end by it
            util._finalizer_registry.clear()
            sys.modules["multiprocessing.process"].__dict__["_children"] = set()
            atexit.register(util._exit_function)
        signal.set_wakeup_fd(-1)
        for sock in own_sockets():
            sock.close()
        # A copy of the supervisor's end of a sibling's pair would hide the supervisor's death from the sibling.
        for key in list(parents.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            elif key.fileobj not in parents.pipe:  # a sibling's pidfd
                os.close(key.fd)
        parents.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides
        for number_ in (signal.SIGHUP, signal.SIGUSR2):  # a terminal that closes signals the group, too
            signal.signal(number_, lambda _number, _frame: None)
        for number_ in (signal.SIGTERM, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number_, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        worker = _run_worker(number, config, listeners, control, side_channel, balancer, readiness)
        code, forced = worker.exit_code, worker.aborted
    except Interrupted:
        code = 128 + signal.SIGTERM
    except SystemExit as error:
        code = exit_code(error)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            # The supervisor forces the end by SIGTERM; Ctrl-C is ignored here.
            end_interpreter(code, timeout, timeout, forced=forced, force_by=signal.SIGTERM)
        exit_now(code)


class ChildSignals:
    """The handler of SIGTERM in a worker process is a method of this. Libraries look it up and ask its object whether
    the server ends, as they ask uvicorn's server (sse-starlette)."""

    def __init__(self, config: Config, loop: Loop, on_terminate: Callable[[], object]) -> None:
        """`on_terminate` is called on `loop` when the process has received SIGTERM."""
        self._config = config
        self._loop = loop
        self._on_terminate = on_terminate
        self._import = ImportInterrupt()
        self.worker: Worker | None = None

    @property
    def should_exit(self) -> bool:
        return self.worker is not None and self.worker.draining

    def handle_exit(self, _number: int, _frame: FrameType | None) -> None:
        self._import.signal()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.post(self._on_terminate)

    def load_application(self) -> Loaded:
        """Imports the application. SIGTERM interrupts that."""
        with self._import.importing():
            return load(self._config)


def _run_worker(
    number: int, config: Config, listeners: list[Listener], control: socket.socket, side_channel: socket.socket,
    balancer: Balancer | None, readiness: Readiness,
) -> Worker:  # fmt: skip
    control.setblocking(False)
    loop = Loop()

    def send(code: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone; `receive` will notice
            control.send(code)

    # The supervisor replaces the worker, unless it stops anyway: it may have received the same signal.
    signals = ChildSignals(config, loop, lambda: send(TERMINATED))
    worker = signals.worker = Worker(
        number, config, signals.load_application, listeners, lambda _worker, report: send(CODE_OF_REPORT[report]),
        loop, balancer, readiness,
    )  # fmt: skip
    received = b""

    def receive(_events: int) -> None:
        nonlocal received
        try:
            data = control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.unwatch(control)
            worker.stop()
        received += data
        while received:
            code, slot = received[:1], received[1:3]
            if code in (ACCEPT_FOR, STOP_ACCEPTING_FOR):
                if len(slot) < 2:
                    return  # the rest is on its way
                received = received[3:]
                if code == ACCEPT_FOR:
                    worker.intake.accept_for(int.from_bytes(slot))
                else:
                    worker.intake.stop_accepting_for(int.from_bytes(slot))
                continue
            received = received[1:]
            if code == ALIVE:
                send(ALIVE + len(worker.exchanges).to_bytes(COUNT_BYTES))
            else:
                COMMANDS[code](worker)

    loop.watch(control, READ, receive)
    signal.signal(signal.SIGTERM, signals.handle_exit)
    signal.set_wakeup_fd(loop.wakeup_fd, warn_on_full_buffer=False)
    arguments = (side_channel, worker, config.timeout_graceful_shutdown)
    threading.Thread(target=_serve_side_channel, args=arguments, name="pounce-line", daemon=True).start()
    worker.run()
    return worker


def _serve_side_channel(side_channel: socket.socket, worker: Worker, timeout: float | None) -> None:
    """On a thread of its own. `timeout` is the graceful one, in seconds; None: no limit."""
    with contextlib.suppress(OSError):
        while question := side_channel.recv(1):
            if question == ASK_REQUEST:
                answer = current_request(worker).encode()[:4095]
            else:
                answer = b"\n" + in_flight(worker).encode()
            side_channel.send(answer)
    # The supervisor is dead, so this thread bounds the shutdown.
    if timeout is not None:
        time.sleep(timeout)
        with contextlib.suppress(RuntimeError):
            worker.loop.post(worker.cancel)
        time.sleep(CANCEL_GRACE + timeout + CANCEL_GRACE)
        os._exit(1)
