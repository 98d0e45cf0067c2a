"""Starts a new server process, as a child of this one or, under a service manager, so that it becomes the manager's.

systemd waits for the end of a service's main process only if that is its own child. Of another one it says "not our
child", and `systemctl stop` then kills what has just got its SIGTERM. A process becomes the manager's child when its
parent ends. The server that is replaced must not end so soon, because it drains. So there is a process in between, the
launcher: it starts the new process, exits with its code if that ends, and exits at once when this process has closed
its end of a socket, because the new one is ready, or has ended.

Must never wait for the new process. It waits for the launcher's first line: the start of an interpreter without
modules, about 10 ms. Owner: the supervisor's thread.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Sequence

from pounce.supervisor import systemd

LAUNCH_TIMEOUT = 5.0
"""Seconds that the launcher has to start: it holds the supervisor's loop up."""

_LAUNCHER = """
import os, select, signal, socket, sys
control, command = socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]
closed, default = [(os.POSIX_SPAWN_CLOSE, control.fileno())], [signal.SIGPIPE, signal.SIGXFSZ]
pid = os.posix_spawn(command[0], command, os.environ, file_actions=closed, setsigdef=default)
for number in signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2:
    signal.signal(number, signal.SIG_IGN)
control.send(b"%d" % pid)
while not select.select([control], [], [], 0.05)[0]:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
os._exit(0)
"""


class Launched:
    def __init__(self, arguments: Sequence[str], folder: str, environment: dict[bytes, bytes], fds: list[int]) -> None:
        """`fds`: the descriptors that it inherits. Raises OSError where no process can be started."""
        import subprocess  # a server without an upgrade does without

        self._control: socket.socket | None = None
        if not systemd.listens():
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                arguments, cwd=folder, env=environment, pass_fds=fds
            )
            self.pid = self.process.pid
            return
        self._control, other = socket.socketpair()
        try:
            with other:
                fd = other.fileno()
                launcher = [arguments[0], "-I", "-S", "-c", _LAUNCHER, str(fd)]
                self.process = subprocess.Popen(
                    [*launcher, *arguments], cwd=folder, env=environment, pass_fds=[*fds, fd]
                )
            self._control.settimeout(LAUNCH_TIMEOUT)
            answer = self._control.recv(32)
        except TimeoutError:
            self._control.close()
            self.process.kill()
            self.process.wait()
            raise OSError(None, f"the launcher has not answered within {LAUNCH_TIMEOUT:g} s", arguments[0]) from None
        except BaseException:
            self._control.close()
            raise
        self.pid = int(answer or 0)
        if not answer:
            self._control.close()
            self.process.wait()
            raise OSError(None, "the launcher has ended", arguments[0])

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def leave(self, *, serves: bool) -> None:
        """It serves, and is not this process's child any more; or it has ended, or its launcher has."""
        if self._control is None:
            self.process.returncode = 0  # not to be waited for: it lives longer
            return
        self._control.close()
        if self.process.wait() < 0 and not serves:  # somebody has killed the launcher: nobody would hear of its end
            self.send_signal(signal.SIGKILL)
