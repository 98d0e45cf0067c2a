"""A worker in a process of its own, for a Python with the GIL: what the supervisor holds of it.

The process is forked from the supervisor, which has bound the sockets, has imported nothing of the application
and runs no other thread. The two talk over pairs of sockets, one byte a word: one pair for the worker's loop, and a
line to a thread of the child that answers when the loop does not. If the supervisor dies, both end: the worker stops
as if it had been told to, and if it cannot, that thread ends the process.

Owner: the supervisor's thread; in the child, its main thread.
"""

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import NoReturn

from pounce.app.loading import Loaded, load
from pounce.config.config import Config
from pounce.errors import exit_code
from pounce.kernel.loop import READ, Loop
from pounce.kernel.task import Interrupted
from pounce.logging import flush_streams
from pounce.net.listeners import Listener
from pounce.observe import stacks
from pounce.supervisor.ending import end_interpreter, leave
from pounce.supervisor.handle import Told
from pounce.supervisor.watchdog import TICK, current_request
from pounce.worker.balance import Board
from pounce.worker.census import NOTHING, Unfinished, unfinished
from pounce.worker.control import Report
from pounce.worker.worker import CANCEL_GRACE, Worker

logger = logging.getLogger("pounce.error")

REPORTS = {b"r": Report.READY, b"f": Report.FAILED, b"t": Report.RETIRING, b"c": Report.CRASHED, b"e": Report.ENDED,
           b"u": Report.UNSUPPORTED, b"l": Report.CLOSING, b"d": Report.CLOSED, b"n": Report.UNCLOSED}  # fmt: skip
WORDS = {report: word for word, report in REPORTS.items()}
COMMANDS: dict[bytes, Callable[[Worker], object]] = {
    b"s": Worker.serve,
    b"x": Worker.stop,
    b"k": Worker.cancel,
    b"a": Worker.abandon,
    b"r": Worker.retire,
}
TURNING, TERMINATED = b"p", b"q"
"""From the child: its loop turns, as it was asked; it has been told to end, by somebody else than the supervisor."""
STAND_IN, STEP_BACK = b"+", b"-"
"""To the child, with a place's number in two bytes."""
WHO, WHAT = b"?", b"u"
"""On the line: which request is it busy with, and what is unfinished. The second answer ends in a newline, and with
WHAT nothing else is asked any more."""
LINE = 0.1
"""Seconds to wait for an answer on the line: long enough for a thread that gets the GIL at all."""


class ProcessWorker:
    def __init__(self, number: int, config: Config, listeners: list[Listener], loop: Loop, told: Told,
                 board: Board | None = None) -> None:  # fmt: skip
        self._number = number
        self._config = config
        self._listeners = listeners
        self._loop = loop
        self._told = told
        self._board = board
        self._pipe: socket.socket | None = None
        self._line: socket.socket | None = None
        self._ready = False
        self._asked_at: float | None = None
        self._starting = True
        self._silent_looks = 0
        """Looks, one after the other, at which the line had not answered the question of the first."""
        self._unfinished = NOTHING
        self._heard: bytes | None = None
        """What has come of the answer to WHAT; None: it has not been asked."""
        self._pidfd: int | None = None
        self.pid = 0
        self.exit_code: int | None = None
        """As of a shell: 128 + the signal's number when one has ended the process."""
        self.name = "process"

    def start(self) -> None:
        pipe, child = socket.socketpair()
        line, childs_line = socket.socketpair()
        flush_streams()
        # A signal that comes to the child before it has handlers of its own waits for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self.pid = os.fork()
            if not self.pid:
                pipe.close()
                line.close()
                _child(self._number, self._config, self._listeners, child, childs_line, self._loop, self._board, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        child.close()
        childs_line.close()
        self.name = f"process {self.pid}"
        self._pipe, self._line = pipe, line
        pipe.setblocking(False)
        self._loop.watch(pipe, READ, self._hear)
        self._loop.watch(line, READ, self._hear_late)
        with contextlib.suppress(AttributeError, OSError):  # not Linux; no descriptor left
            self._pidfd = os.pidfd_open(self.pid)
            self._loop.watch(self._pidfd, READ, self._ended)

    def _hear(self, _events: int = READ) -> None:
        if self._pipe is None:  # its end has been heard in the same turn
            return
        try:
            words = self._pipe.recv(64)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        for word in (words[place : place + 1] for place in range(len(words))):
            if word == TURNING:
                self._asked_at = None
            elif word == TERMINATED:
                self._told(Report.RETIRING)  # nothing new, if the server is ending anyway
            elif (report := REPORTS[word]) is not Report.ENDED:  # the end is when the process is gone
                self._starting = False
                self._ready = self._ready or report is Report.READY
                self._told(report)
        if not words:
            self._gone()

    def _ended(self, _events: int) -> None:
        """The end of the pair may not tell it: what the application has forked holds it open."""
        self._hear()  # what it still had to say
        if self._pipe is not None:
            self._gone()

    def _gone(self) -> None:
        assert self._pipe is not None
        assert self._line is not None
        for sock in (self._pipe, self._line):
            self._loop.unwatch(sock)
            sock.close()
        self._pipe = None
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else 128 - code
        self._told(Report.ENDED)

    def _hear_late(self, _events: int) -> None:
        """An answer on the line for which nobody waits any more. (The line's end is the pair's end.)"""
        assert self._line is not None
        self._silent_looks = 0
        with contextlib.suppress(OSError):
            said = self._line.recv(4096)
            if self._heard is not None:
                self._heard += said
                if said.endswith(b"\n"):
                    self._unfinished = Unfinished.decode(self._heard.splitlines()[-1])
                    self._heard = None

    def _say(self, word: bytes) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # it is going, and its end will be heard
                self._pipe.send(word)

    def serve(self) -> None:
        self._say(b"s")

    def retire(self) -> None:
        self._say(b"r")

    def stop(self) -> None:
        self._say(b"x")
        if not self._ready and self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)  # ends an import, which nothing is lost by
        if self._starting and self.exit_code is None:  # it may be in the middle of its import, and hear nothing
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def cancel(self) -> None:
        self._say(b"k")

    def abandon(self) -> None:
        self._say(b"a")
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)  # its loop may have ended; what ends now does not hear the word

    def kill(self) -> bool:
        """Ends the process at once. Its end will be reported."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        return True

    def join(self) -> None: ...

    def stand_in(self, number: int) -> None:
        self._say(STAND_IN + number.to_bytes(2))

    def step_back(self, number: int) -> None:
        self._say(STEP_BACK + number.to_bytes(2))

    def blocked_for(self, now: float) -> float:
        """Asks, at each look, and counts from the question that was not answered."""
        if self._asked_at is not None:
            if not self._silent_looks and self._line is not None:
                with contextlib.suppress(OSError):
                    self._line.send(WHO)
            self._silent_looks += 1
            return now - self._asked_at
        self._asked_at = now
        self._say(TURNING)
        return 0.0

    @property
    def hung(self) -> bool:
        """Counted in looks, not by the clock: when a container is thawed, the supervisor may be first to run."""
        limit = self._config.timeout_worker_healthcheck
        return limit is not None and self._silent_looks * TICK > limit

    def describe(self) -> tuple[str, str]:
        assert self._line is not None
        self._line.settimeout(LINE)
        try:
            if not self._silent_looks:  # else it has been asked already
                self._line.send(WHO)
            request = self._line.recv(4096).decode()
            self._silent_looks = 0
        except OSError:
            request = "something that keeps the GIL"
        return request, stacks.of(partial(os.kill, self.pid))

    def unfinished(self) -> Unfinished:
        """As of the last answer."""
        if self._heard is not None:
            return Unfinished(Counter({f"something in {self.name}, which does not answer": 1}), 1)
        if self._ready and self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(WHAT)
                self._heard = b""
        return self._unfinished

    def lose(self) -> None:
        self.kill()


def _child(
    number: int, config: Config, listeners: list[Listener], pipe: socket.socket, line: socket.socket, parents: Loop,
    board: Board | None, mask: set[signal.Signals | int],
) -> NoReturn:  # fmt: skip
    """The life of a worker process. Never returns: the frames above belong to the supervisor."""
    code, patience, forced = 1, config.timeout_graceful_shutdown, False
    try:
        atexit._clear()  # what the parent registered is the parent's to do
        if (util := sys.modules.get("multiprocessing.util")) is not None:  # but pools of the child's own end by it
            util._finalizer_registry.clear()
            sys.modules["multiprocessing.process"].__dict__["_children"] = set()
            atexit.register(util._exit_function)
        signal.set_wakeup_fd(-1)
        # A copy of the supervisor's end of a sibling's pair would hide the supervisor's death from the sibling.
        for key in list(parents.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            elif key.fileobj not in parents.pipe:  # a sibling's pidfd
                os.close(key.fd)
        parents.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # a terminal that closes tells the whole group, too
        for number_ in (signal.SIGTERM, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number_, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        worker = _work(number, config, listeners, pipe, line, board)
        code, forced = worker.exit_code, worker.abandoned
    except Interrupted:
        code = 128 + signal.SIGTERM
    except SystemExit as error:
        code = exit_code(error)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            end_interpreter(code, patience, patience, forced=forced)
        leave(code)


class Termination:
    """What the handler of SIGTERM belongs to in a worker process. Libraries find it there and ask it whether the server
    is ending (sse-starlette), as they ask uvicorn's server."""

    def __init__(self, config: Config, loop: Loop, said: Callable[[], object]) -> None:
        """`said` is called on `loop` when the process has been told to end."""
        self._config = config
        self._loop = loop
        self._said = said
        self._importing = False
        self.worker: Worker | None = None

    @property
    def should_exit(self) -> bool:
        return self.worker is not None and self.worker.draining

    def handle_exit(self, _number: int, _frame: FrameType | None) -> None:
        if self._importing:
            raise Interrupted
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.post(self._said)

    def load(self) -> Loaded:
        """Imports the application; SIGTERM ends that."""
        self._importing = True
        try:
            return load(self._config)
        finally:
            self._importing = False


def _work(
    number: int, config: Config, listeners: list[Listener], pipe: socket.socket, line: socket.socket,
    board: Board | None,
) -> Worker:  # fmt: skip
    pipe.setblocking(False)
    loop = Loop()

    def say(word: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone; `hear` will notice
            pipe.send(word)

    # The supervisor replaces the worker, or is ending itself: it may have been told so in the same moment.
    termination = Termination(config, loop, lambda: say(TERMINATED))
    worker = termination.worker = Worker(
        number, config, termination.load, listeners, lambda _worker, what: say(WORDS[what]), loop, board
    )
    heard = b""

    def hear(_events: int) -> None:
        nonlocal heard
        try:
            words = pipe.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if not words:
            loop.unwatch(pipe)
            worker.stop()
        heard += words
        while heard:
            word, place = heard[:1], heard[1:3]
            if word in (STAND_IN, STEP_BACK):
                if len(place) < 2:
                    return  # the rest is on its way
                heard = heard[3:]
                if word == STAND_IN:
                    worker.reception.stand_in(int.from_bytes(place))
                else:
                    worker.reception.step_back(int.from_bytes(place))
                continue
            heard = heard[1:]
            if word == TURNING:
                say(TURNING)
            else:
                COMMANDS[word](worker)

    loop.watch(pipe, READ, hear)
    signal.signal(signal.SIGTERM, termination.handle_exit)
    signal.set_wakeup_fd(loop.wakeup_fd, warn_on_full_buffer=False)
    patience = config.timeout_graceful_shutdown
    threading.Thread(target=_answer, args=(line, worker, patience), name="pounce-line", daemon=True).start()
    worker.run()
    return worker


def _answer(line: socket.socket, worker: Worker, patience: float | None) -> None:
    """The other end of the line, on a thread of its own."""
    with contextlib.suppress(OSError):
        while question := line.recv(1):
            answer = current_request(worker).encode()[:4095] if question == WHO else b"\n" + unfinished(worker).encode()
            line.send(answer)
    # The supervisor is dead, and nobody else will see to it that this process ends.
    if patience is not None:
        time.sleep(patience)
        with contextlib.suppress(RuntimeError):
            worker.loop.post(worker.cancel)
        time.sleep(CANCEL_GRACE + patience + CANCEL_GRACE)
        os._exit(1)
