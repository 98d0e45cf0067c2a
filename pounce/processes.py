"""A worker in a process of its own, for a Python with the GIL: what the supervisor holds of it.

The process is forked from the supervisor, which has bound the sockets, has imported nothing of the application
and runs no other thread. The two talk over a pair of sockets, one byte a word. If the supervisor dies, the pair
ends, and the worker stops as if it had been told to.

Owner: the supervisor's thread; in the child, its only thread.
"""

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from pounce.asgi.application import load
from pounce.config import Config
from pounce.kernel.loop import READ, Loop
from pounce.net.listeners import Listener
from pounce.worker import Report, Worker

type Told = Callable[[Report], object]

logger = logging.getLogger("pounce.error")

REPORTS = {b"r": Report.READY, b"f": Report.FAILED, b"t": Report.RETIRING, b"c": Report.CRASHED, b"e": Report.ENDED}
WORDS = {report: word for word, report in REPORTS.items()}
COMMANDS = {b"s": Worker.serve, b"x": Worker.stop, b"k": Worker.cancel, b"a": Worker.abandon}


class ProcessWorker:
    def __init__(self, number: int, config: Config, listeners: list[Listener], loop: Loop, told: Told) -> None:
        self._number = number
        self._config = config
        self._listeners = listeners
        self._loop = loop
        self._told = told
        self._pipe: socket.socket | None = None
        self.pid = 0
        self.exit_code: int | None = None
        """As of a shell: 128 + the signal's number when one has ended the process."""
        self.name = "process"

    def start(self) -> None:
        self._pipe, child = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._pipe.close()
            _child(self._number, self._config, self._listeners, child, self._loop)
        child.close()
        self.name = f"process {self.pid}"
        self._pipe.setblocking(False)
        self._loop.watch(self._pipe, READ, self._hear)

    def _hear(self, _events: int) -> None:
        assert self._pipe is not None
        try:
            words = self._pipe.recv(64)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        for word in words:
            if (report := REPORTS[bytes((word,))]) is not Report.ENDED:  # the end is when the process is gone
                self._told(report)
        if not words:
            self._loop.unwatch(self._pipe)
            self._pipe.close()
            self._pipe = None
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.exit_code = code if code >= 0 else 128 - code
            self._told(Report.ENDED)

    def _say(self, word: bytes) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # it is going, and its end will be heard
                self._pipe.send(word)

    def serve(self) -> None:
        self._say(b"s")

    def stop(self) -> None:
        self._say(b"x")

    def cancel(self) -> None:
        self._say(b"k")

    def abandon(self) -> None:
        self._say(b"a")

    def kill(self) -> bool:
        """Ends the process at once. Its end will be reported."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        return True

    def join(self) -> None: ...


def _child(number: int, config: Config, listeners: list[Listener], pipe: socket.socket, parents: Loop) -> NoReturn:
    """The life of a worker process. Never returns: the frames above belong to the supervisor."""
    code = 1
    try:
        atexit._clear()  # what the parent registered is the parent's to do
        signal.set_wakeup_fd(-1)
        # A copy of the supervisor's end of a sibling's pair would hide the supervisor's death from the sibling.
        for key in list(parents.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        parents.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = _work(number, config, listeners, pipe)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _work(number: int, config: Config, listeners: list[Listener], pipe: socket.socket) -> int:
    pipe.setblocking(False)
    loop = Loop()

    def report(_worker: Worker, what: Report) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone; `hear` will notice
            pipe.send(WORDS[what])

    worker = Worker(number, config, lambda: load(config), listeners, report, loop)

    def hear(_events: int) -> None:
        try:
            words = pipe.recv(64)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        for word in words:
            COMMANDS[bytes((word,))](worker)
        if not words:
            loop.unwatch(pipe)
            worker.stop()

    loop.watch(pipe, READ, hear)

    def terminated(_number: int, _frame: object) -> None:
        loop.call_soon(worker.retire)

    signal.set_wakeup_fd(loop.wakeup_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, terminated)
    worker.run()
    return worker.exit_code or 0
