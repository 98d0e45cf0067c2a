"""An upgrade (SIGUSR2): a new server process takes over the listening sockets, and this one drains.

The new process is started with the same command, so by the Python, the Pounce and the application that are found there
now. It inherits the open sockets, takes those of its own configuration and binds what is missing. It imports the
application, starts its workers, and then tells this process, over a pipe, which sockets it has taken. Up to then it
changes nothing at them: if it ends before, nothing is lost, and this process goes on.

From then on the sockets are the new one's. The workers of this process retire, and it ends. It closes to clients only
sockets that were not taken: addresses that the new configuration does not have. Both processes accept from one queue
for a moment, so no client sees the change. A socket that is closed instead resets the clients in its queue, even where
another socket is bound to the same address.

A stop of this process while the new one starts ends the new one as well, because that is not a server yet. Once it is
ready, each has its own signals.

Must never wait for the new process: its import may take any time. Owner: the supervisor's thread.
"""

import logging
import os
import signal
from collections.abc import Callable, Sequence

from pounce.config.config import Config
from pounce.kernel.loop import READ, Loop, Timer
from pounce.logging import flush_streams
from pounce.net.inherited import descriptors
from pounce.net.listeners import Listener, open_listeners, words
from pounce.supervisor import activation, systemd
from pounce.supervisor.inheritance import LISTENERS, READY_FD, Command, Predecessor
from pounce.supervisor.launcher import Launched
from pounce.supervisor.process_end import ProcessEnd

STOP_GRACE = 3.0
"""Seconds that a new process has to end, beside the graceful timeout for its start and again for its lifespan's
shutdown. Then it is killed: an import may ignore every signal, and its sockets would keep clients waiting for ever."""

logger = logging.getLogger("pounce.error")


class NewProcess:
    """A new server process, until it is ready or has ended."""

    def __init__(
        self, loop: Loop, command: Command, listeners: Sequence[Listener], on_ready: Callable[[], object],
        on_failed: Callable[[int], object],
    ) -> None:  # fmt: skip
        """One of the two is called: `on_ready`, when the listeners that were taken are handed on, or `on_failed` with
        the exit code, as of a shell, when the process has ended before. Raises OSError where no process can be
        started."""
        self._loop = loop
        self._listeners = listeners
        self._on_ready = on_ready
        self._on_failed = on_failed
        self.started_at = loop.clock()
        self._received = b""
        self._ready = False
        self._stopping = False
        self._kill: Timer | None = None
        reader, writer = os.pipe()
        given = words(listeners)
        environment = command.environment_with(**{LISTENERS: " ".join(given), READY_FD: str(writer)})
        flush_streams()
        try:
            self._launched = Launched(command.arguments, command.folder, environment, [writer, *descriptors(given)])
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self.pid = self._launched.pid
        self._reader: int | None = reader
        os.set_blocking(reader, False)
        loop.watch(reader, READ, self._read)
        self._end = ProcessEnd(loop, self._launched.process, self._process_ended)

    def _read(self, _events: int = READ) -> None:
        if self._reader is None:  # closed in the same turn
            return
        try:
            data = os.read(self._reader, 4096)
        except BlockingIOError:
            return
        self._received += data
        if self._received.endswith(b"\n"):
            self._ready = True
            self._close()
            self._launched.leave(serves=True)
            taken = set(self._received.decode().split())
            for listener in self._listeners:
                if taken.intersection(listener.words):
                    listener.hand_on()
            self._on_ready()
        elif not data:
            self._close_reader()

    def _process_ended(self, code: int) -> None:
        self._read()  # it may have been ready before
        if not self._ready:
            self._close()
            self._launched.leave(serves=False)
            self._on_failed(code if code >= 0 else 128 - code)

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._loop.unwatch(self._reader)
            os.close(self._reader)
            self._reader = None

    def _close(self) -> None:
        self._close_reader()
        self._end.close()
        if self._kill is not None:
            self._kill.cancel()

    def stop(self, timeout: float | None) -> None:
        """Ends the process in order. `timeout`: the graceful one, in seconds; None: no limit."""
        if self._stopping:
            return
        self._stopping = True
        logger.info("The new server process [%d] is not ready; it is ended.", self.pid)
        self._launched.send_signal(signal.SIGTERM)
        if timeout is not None:
            self._kill = self._loop.call_later(2 * timeout + STOP_GRACE, self.abort)

    def abort(self) -> None:
        """Ends the process at once. It serves no client."""
        self._launched.send_signal(signal.SIGKILL)


class Succession:
    """Between server processes: takes the sockets over from the one before, and hands them on to the next."""

    def __init__(self, loop: Loop, command: Command | None, on_handed_on: Callable[[], object]) -> None:
        """`command`: the server's; None where the process is not the server's alone. `on_handed_on` is called when a
        new process serves."""
        self._loop = loop
        self._command = command
        self._on_handed_on = on_handed_on
        self._predecessor: Predecessor | None = None
        self._new: NewProcess | None = None
        self.handed_on = False
        """Does a new process serve?"""

    def open(self, config: Config, workers: int, *, only_admin: bool) -> list[Listener]:
        """Listeners at the addresses of the configuration, with sockets that were inherited, or that the service
        manager has given. `only_admin`: without the public ones. Raises StartupError."""
        admin = config.admin_binds()
        if self._command is None:
            return open_listeners([*([] if only_admin else activation.binds(config, [])), *admin], workers)
        predecessor = self._predecessor = Predecessor()
        given = activation.take(predecessor.sockets, from_predecessor=predecessor.given)
        binds = [*([] if only_admin else activation.binds(config, given)), *admin]
        listeners = open_listeners(binds, workers, predecessor.sockets)
        if not predecessor.serves:
            take_over(listeners)
        return listeners

    @property
    def has_predecessor(self) -> bool:
        """Does another server process serve until this one is ready?"""
        return self._predecessor is not None and self._predecessor.serves

    def execute_again(self) -> None:
        """Before the server has started: executes the command again."""
        assert self._predecessor is not None
        assert self._command is not None
        self._predecessor.execute(self._command)

    def ready(self) -> None:
        """This server lets clients in."""
        if self._predecessor is None or not self._predecessor.serves:
            systemd.ready()
        elif not self._predecessor.tell():  # the predecessor tells the service manager, if it lives
            systemd.ready(os.getpid())

    # To a new process

    @property
    def under_way(self) -> bool:
        """Is a new process starting?"""
        return self._new is not None

    def upgrade(self, listeners: Sequence[Listener]) -> None:
        """Starts a new server process, which takes over the sockets when it is ready."""
        if self._new is not None:
            seconds = self._loop.clock() - self._new.started_at
            logger.warning("SIGUSR2 is ignored: the new server process [%d] has been starting for %.0f s; "
                           "to end it: kill %d", self._new.pid, seconds, self._new.pid)  # fmt: skip
            return
        if os.getpid() == 1:
            logger.warning("SIGUSR2 is ignored: the end of this process, the container's first, ends the container; "
                           "start a new container, or use SIGHUP.")  # fmt: skip
            return
        assert self._command is not None
        logger.info("SIGUSR2: starting a new server process, which takes over when it is ready.")
        systemd.reloading()
        try:
            self._new = NewProcess(self._loop, self._command, listeners, self._new_ready, self._new_failed)
        except OSError as error:
            logger.error("No new server process: %s; this one goes on.", self._command.describe(error))
            systemd.ready()

    def _new_ready(self) -> None:
        assert self._new is not None
        pid, self._new = self._new.pid, None
        self.handed_on = True
        logger.info("The new server process [%d] has taken over.", pid)
        systemd.ready(pid)
        self._on_handed_on()

    def _new_failed(self, code: int) -> None:
        assert self._new is not None
        pid, self._new = self._new.pid, None
        logger.error("The new server process [%d] has ended with code %d before it was ready; this one goes on.",
                     pid, code)  # fmt: skip
        systemd.ready()

    def stop(self, timeout: float | None) -> None:
        """Ends a new process that is not ready, because this one stops. `timeout`: the graceful one, in seconds."""
        if self._new is not None:
            self._new.stop(timeout)

    def abort(self) -> None:
        """Does so at once."""
        if self._new is not None:
            self._new.abort()


def take_over(listeners: Sequence[Listener]) -> None:
    """The sockets are this process's own from now on, also those that it has inherited."""
    for listener in listeners:
        listener.take_over()
