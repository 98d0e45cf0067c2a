"""A part of an open file in a stream's buffer, which the kernel sends (sendfile).

Owner: the stream it waits in.
"""

import os
import socket

BURST = 1 << 20
"""Bytes handed to the kernel at once: one client with a fast line must not hold up the turn."""


class FilePart:
    """Closes the file when it is done with."""

    __slots__ = ("fd", "offset", "remaining")

    def __init__(self, fd: int, offset: int, remaining: int) -> None:
        self.fd = fd
        self.offset = offset
        self.remaining = remaining

    def __len__(self) -> int:
        return self.remaining

    def send(self, sock: socket.socket) -> int:
        """How many bytes the kernel has taken. Raises OSError."""
        sent = os.sendfile(sock.fileno(), self.fd, self.offset, min(self.remaining, BURST))
        if not sent:
            raise OSError("the file became shorter while it was being sent")
        self.offset += sent
        self.remaining -= sent
        return sent

    def close(self) -> None:
        os.close(self.fd)
