"""A worker in a process of its own, for a Python with the GIL: the supervisor's side.

The process is forked from the supervisor, which has bound the sockets, has imported nothing of the application and runs
no other thread. `child` describes their messages.

Owner: the supervisor's thread.
"""

import contextlib
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from pounce.config.config import Config
from pounce.kernel.loop import READ, Loop
from pounce.logging import flush_streams
from pounce.net.listeners import Listener
from pounce.observe import stacks
from pounce.supervisor import child
from pounce.supervisor.handle import CHECK_INTERVAL, OnReport, WorkerHandle
from pounce.worker.balance import Balancer
from pounce.worker.census import NONE_IN_FLIGHT, InFlight
from pounce.worker.control import Report
from pounce.worker.readiness import Readiness

ANSWER_TIMEOUT = 0.1
"""Seconds to wait for an answer on the side channel: long enough for a thread that gets the GIL at all."""


class ProcessWorker:
    def __init__(
        self, number: int, config: Config, listeners: list[Listener], loop: Loop, on_report: OnReport,
        balancer: Balancer | None, readiness: Readiness, own_sockets: Callable[[], Iterable[socket.socket]],
    ) -> None:  # fmt: skip
        """`own_sockets`: those of the supervisor alone."""
        self.number = number
        self._config = config
        self._listeners = listeners
        self._loop = loop
        self._on_report = on_report
        self._balancer = balancer
        self._readiness = readiness
        self._own_sockets = own_sockets
        self._control: socket.socket | None = None
        self._side_channel: socket.socket | None = None
        self._ready = False
        self._asked_at: float | None = None
        """When the loop was asked whether it turns, if it has not answered."""
        self._missed_checks = 0
        """Checks in a row at which the side channel had not answered the question of the first."""
        self._received = b""
        """The beginning of a message on the control pair."""
        self._running = 0
        self._in_flight = NONE_IN_FLIGHT
        self._partial_answer: bytes | None = None
        """What has arrived of the answer to ASK_IN_FLIGHT; None: it has not been asked."""
        self._pidfd: int | None = None
        self.pid = 0
        self.exit_code: int | None = None
        """As of a shell: 128 + the signal's number where a signal has ended the process."""
        self.name = "process"

    def start(self) -> None:
        """Forks. Raises OSError when no descriptor, process or memory is left."""
        control, childs_control = socket.socketpair()
        side_channel, childs_side_channel = socket.socketpair()
        flush_streams()
        # A signal that reaches the child before it has handlers of its own waits for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self.pid = os.fork()
            if not self.pid:
                control.close()
                side_channel.close()
                child.run_child(
                    self.number, self._config, self._listeners, childs_control, childs_side_channel, self._loop,
                    self._balancer, self._readiness, self._own_sockets, before,
                )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        childs_control.close()
        childs_side_channel.close()
        self.name = f"process {self.pid}"
        self._control, self._side_channel = control, side_channel
        control.setblocking(False)
        self._loop.watch(control, READ, self._read_reports)
        self._loop.watch(side_channel, READ, self._read_late_answer)
        with contextlib.suppress(AttributeError, OSError):  # not Linux; no descriptor left
            self._pidfd = os.pidfd_open(self.pid)
            self._loop.watch(self._pidfd, READ, self._process_ended)

    def _read_reports(self, _events: int = READ) -> None:
        if self._control is None:  # its end has been read in the same turn
            return
        try:
            codes = self._control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            codes = b""
        received = self._received + codes
        while received:
            code, rest = received[:1], received[1:]
            if code == child.ALIVE:
                if len(rest) < child.COUNT_BYTES:
                    break  # the rest is on its way
                self._asked_at = None
                self._running = int.from_bytes(rest[: child.COUNT_BYTES])
                rest = rest[child.COUNT_BYTES :]
            elif code == child.TERMINATED:
                self._on_report(Report.WANTS_SUCCESSOR)  # changes nothing where the server stops anyway
            elif (report := child.REPORT_OF_CODE[code]) is not Report.ENDED:  # it has ended when the process is gone
                self._ready = self._ready or report is Report.READY
                self._on_report(report)
            received = rest
        self._received = received
        if not codes:
            self._reap()

    def _process_ended(self, _events: int) -> None:
        """The control pair's end may not show it: what the application has forked holds a copy open."""
        self._read_reports()
        if self._control is not None:
            self._reap()

    def _reap(self) -> None:
        assert self._control is not None
        assert self._side_channel is not None
        for sock in (self._control, self._side_channel):
            self._loop.unwatch(sock)
            sock.close()
        self._control = None
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else 128 - code
        self._on_report(Report.ENDED)

    def _read_late_answer(self, _events: int) -> None:
        """An answer on the side channel for which no call waits. Its end is the control pair's end, too."""
        assert self._side_channel is not None
        self._missed_checks = 0
        with contextlib.suppress(OSError):
            data = self._side_channel.recv(4096)
            if self._partial_answer is not None:
                self._partial_answer += data
                if data.endswith(b"\n"):
                    self._in_flight = InFlight.decode(self._partial_answer.splitlines()[-1])
                    self._running = self._in_flight.names.total()
                    self._partial_answer = None

    def _send(self, code: bytes) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # the process ends, which will be reported
                self._control.send(code)

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def serve(self) -> None:
        self._send(child.SERVE)

    def retire(self, heir: WorkerHandle | None = None, *, hurry: bool = False) -> None:
        self._send(child.HURRY if hurry else child.RETIRE)

    def stop(self) -> None:
        self._send(child.STOP)
        if not self._ready:
            self._signal(signal.SIGTERM)  # its loop may not turn yet; this interrupts an import

    def cancel(self) -> None:
        self._send(child.CANCEL)

    def abort(self) -> None:
        self._send(child.ABORT)
        self._signal(signal.SIGTERM)  # its loop may have ended, and the interpreter's exit reads no command

    def kill(self) -> bool:
        """Ends the process at once. Its end will be reported."""
        self._signal(signal.SIGKILL)
        return True

    def join(self) -> None: ...

    def accept_for(self, number: int) -> None:
        self._send(child.ACCEPT_FOR + number.to_bytes(2))

    def stop_accepting_for(self, number: int) -> None:
        self._send(child.STOP_ACCEPTING_FOR + number.to_bytes(2))

    def blocked_for(self, now: float) -> float:
        """Asks the loop, once per check, and counts from the first question without an answer."""
        if self._asked_at is not None:
            if not self._missed_checks and self._side_channel is not None:
                with contextlib.suppress(OSError):
                    self._side_channel.send(child.ASK_REQUEST)
            self._missed_checks += 1
            return now - self._asked_at
        self._asked_at = now
        self._send(child.ALIVE)
        return 0.0

    @property
    def hung(self) -> bool:
        """Counted in checks, not by the clock: when a container is thawed, the supervisor may run first."""
        limit = self._config.timeout_worker_healthcheck
        return limit is not None and self._missed_checks * CHECK_INTERVAL > limit

    def describe_block(self) -> tuple[str, str]:
        assert self._side_channel is not None
        self._side_channel.settimeout(ANSWER_TIMEOUT)
        try:
            if not self._missed_checks:  # else `blocked_for` has asked
                self._side_channel.send(child.ASK_REQUEST)
            request = self._side_channel.recv(4096).decode()
            self._missed_checks = 0
        except OSError:
            request = "something that keeps the GIL"
        return request, stacks.of(partial(os.kill, self.pid))

    def running(self) -> int:
        return self._running

    def in_flight(self) -> InFlight:
        """As of the last answer."""
        if self._partial_answer is not None:
            return InFlight(Counter({f"something in {self.name}, which does not answer": 1}), 1)
        if self._ready and self._side_channel is not None:
            with contextlib.suppress(OSError):
                self._side_channel.send(child.ASK_IN_FLIGHT)
                self._partial_answer = b""
        return self._in_flight

    def give_up(self) -> None:
        self.kill()
