"""What goes from one server process to the next: the command, and the listening sockets as open descriptors.

The next one is a new process (`upgrade`), or this process when it executes its command again. It learns of what it has
inherited from two variables of the environment, which it removes at once:

    POUNCE_LISTENERS   the sockets: see `net.inherited`
    POUNCE_READY_FD    a pipe. Its predecessor serves until it is told there which sockets have been taken. Without it,
                       there is no predecessor any more, and the sockets are this process's own

Must never be used by a server that shares its process with another program. Owner: the supervisor's thread.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from pounce.errors import StartupError
from pounce.logging import flush_streams
from pounce.net.inherited import InheritedSockets, descriptors
from pounce.net.listeners import Listener, words
from pounce.supervisor import activation
from pounce.supervisor.plan import PROCESSES_REASON

ONLY_LOAD = "POUNCE_ONLY_LOAD"
"""The environment variable with which the command loads the application and ends: would a new process start?"""
LISTENERS, READY_FD = "POUNCE_LISTENERS", "POUNCE_READY_FD"


class Command(NamedTuple):
    """The server's command, as it was typed. What is found at its paths is executed: a new Python, a new Pounce."""

    arguments: list[str]
    folder: str
    environment: dict[bytes, bytes]

    @classmethod
    def of_this_process(cls) -> "Command":
        """To be called before the application is imported, which may change the current folder and the environment;
        and before `--env-file` is read, whose variables would win over a changed file."""
        return cls([sys.executable, *sys.orig_argv[1:]], _current_folder(), dict(os.environb))

    def environment_with(self, **variables: str) -> dict[bytes, bytes]:
        """As it was, with what one process of the server tells the next; empty variables are left out. Where no sockets
        are passed on, nor is what the service manager has said of them."""
        own = {name.encode() for name in (LISTENERS, READY_FD, PROCESSES_REASON)}
        if not variables.get(LISTENERS):
            own.update(name.encode() for name in activation.VARIABLES)
        result = {name: value for name, value in self.environment.items() if name not in own}
        return result | {name.encode(): os.fsencode(value) for name, value in variables.items() if value}

    def execute(self, fds: Sequence[int], **variables: str) -> NoReturn:
        """Replaces this process, which keeps its number and the descriptors `fds`. Raises StartupError."""
        flush_streams()
        for fd in fds:
            os.set_inheritable(fd, True)
        try:
            os.chdir(self.folder)
            os.execve(self.arguments[0], self.arguments, self.environment_with(**variables))
        except OSError as error:
            raise StartupError(self.describe(error)) from None

    def describe(self, error: OSError) -> str:
        """Why it cannot be executed, in one line."""
        return f"cannot execute {error.filename or self.arguments[0]}: {(error.strerror or str(error)).lower()}"


def _current_folder() -> str:
    """With symbolic links as the shell has them, because a deployment may change where they lead."""
    folder, named = os.getcwd(), os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(named) and os.path.samefile(folder, named):
            return named
    return folder


class Predecessor:
    """The server process that has started this one, or what this process was before it executed its command again."""

    def __init__(self) -> None:
        given = os.environ.pop(LISTENERS, "")
        self.sockets = InheritedSockets(given)
        self.given = bool(given)
        """Has it given any sockets?"""
        self._ready_fd: int | None = None
        text = os.environ.pop(READY_FD, "")
        if text.isdecimal():
            with contextlib.suppress(OSError):
                os.set_inheritable(int(text), False)
                self._ready_fd = int(text)
                os.register_at_fork(after_in_child=self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """In a process that has just been forked: it must not keep the pipe open when this one has ended."""
        if self._ready_fd is not None:
            os.close(self._ready_fd)
            self._ready_fd = None

    @property
    def serves(self) -> bool:
        """Is it another process, which serves until it is told?"""
        return self._ready_fd is not None

    def tell(self) -> bool:
        """This process is ready, and has the sockets it has taken. False if the predecessor is gone."""
        assert self._ready_fd is not None
        fd, self._ready_fd = self._ready_fd, None
        try:
            os.write(fd, " ".join(self.sockets.taken).encode() + b"\n")
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def execute(self, command: Command) -> NoReturn:
        """Executes the command again before this server has started. What was inherited is inherited again; sockets
        that were bound here are bound again. Raises StartupError."""
        taken = self.sockets.taken
        ready = [] if self._ready_fd is None else [self._ready_fd]
        reason = os.environ.get(PROCESSES_REASON, "")
        command.execute(
            descriptors(taken) + ready,
            **{LISTENERS: " ".join(taken), READY_FD: "".join(map(str, ready)), PROCESSES_REASON: reason},
        )


def exec_in_place(command: Command, listeners: Sequence[Listener]) -> NoReturn:
    """Executes the command again in this process, with the listening sockets: clients wait in their queues meanwhile.
    To be called when the workers have ended. Raises StartupError."""
    given = words(listeners)
    command.execute(descriptors(given), **{LISTENERS: " ".join(given)})
