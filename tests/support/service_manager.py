"""What a service manager gives the server that it starts: listening sockets, and a socket for messages."""

import contextlib
import socket
import sys
from collections.abc import Sequence

# Executes a command with descriptors moved to 3 and those that follow, as systemd does.
_LAUNCH = """
import os, sys
fds, names, command = [int(fd) for fd in sys.argv[1].split()], sys.argv[2], sys.argv[3:]
aside = [os.dup2(fd, 1000 + fd, inheritable=False) for fd in fds]
for target, fd in enumerate(aside, 3):
    os.dup2(fd, target)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


def activating(fds: Sequence[int], names: str) -> list[str]:
    """Words before a command, which then has these descriptors by LISTEN_FDS. They must be inherited as well."""
    return [sys.executable, "-S", "-c", _LAUNCH, " ".join(map(str, fds)), names]


class NotifySocket:
    """Receives the server's messages, as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.settimeout(30)
        self.statuses: list[str] = []
        """What STATUS= has said so far."""

    def next(self) -> list[str]:
        """The next message that says more than the status."""
        while True:
            lines = self.sock.recv(4096).decode().splitlines()
            rest = [line for line in lines if not line.startswith("STATUS=")]
            self.statuses += [line.partition("=")[2] for line in lines if line not in rest]
            if rest:
                return rest

    def next_status(self) -> str:
        count = len(self.statuses)
        while len(self.statuses) == count:
            self.sock.settimeout(30)
            lines = self.sock.recv(4096).decode().splitlines()
            self.statuses += [line.partition("=")[2] for line in lines if line.startswith("STATUS=")]
        return self.statuses[-1]

    def has_more(self) -> bool:
        """Does a message wait that says more than the status?"""
        self.sock.setblocking(False)
        try:
            return bool(self.next())
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(30)

    def wait_silent(self, seconds: float) -> None:
        """Reads until no message has come for so long."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while True:
                self.sock.recv(4096)
        self.sock.settimeout(30)

    def full(self) -> bool:
        """Can no other message be sent now, because none is read?"""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.connect(self.address)
                sock.send(b"STATUS=full")
            except BlockingIOError:
                return True
        return False

    def __enter__(self) -> "NotifySocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
