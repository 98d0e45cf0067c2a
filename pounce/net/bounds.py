"""How long a client may take nothing of what is sent to it, and how much the kernel may hold meanwhile.

What the kernel has not taken waits in a stream, and has a deadline there. What it has taken may still lie there: for
a client that has vanished until TCP gives up, which is a quarter of an hour, for one that does not read for ever. So
the streams of requests that are being answered are looked at a few times within that deadline, and one whose client
has acknowledged nothing for its length, with something outstanding all the time, is ended like any other.

(TCP_USER_TIMEOUT looks like the remedy and is none: Linux counts it from the first full window on, and cuts off slow
readers that do read.)

Owner: one worker's thread.
"""

import fcntl
import socket
import sys
import termios
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from pounce.kernel.deadlines import DeadlineQueue
from pounce.kernel.loop import Loop

if TYPE_CHECKING:
    from pounce.net.stream import Stream

TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 0)
LOANS = 64
"""Connections of a worker that may have more in the kernel than the others: what it holds for slow readers has a
bound."""
LOOKS = 8  # within the deadline: a client is ended at most an eighth of it too late
TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux
ACKNOWLEDGED = slice(120, 128)
"""Where `struct tcp_info` has tcpi_bytes_acked, a 64-bit number (linux/tcp.h; Linux 4.1)."""


class HasStream(Protocol):
    @property
    def stream(self) -> "Stream": ...


class StreamBounds:
    """The deadlines and the loans that all streams of one worker share."""

    def __init__(self, loop: Loop, write: float | None, linger: float, active: Collection["HasStream"]) -> None:
        """`write` and `linger` are lengths in seconds; `active` is what is being answered."""
        self.write: DeadlineQueue[Stream] = loop.deadlines(write, lambda stream: stream.abort())
        self.linger: DeadlineQueue[Stream] = loop.deadlines(linger, lambda stream: stream.abort())
        self.loans = LOANS if TCP_NOTSENT_LOWAT else 0
        self.looking = write is None or TCP_INFO is None
        """Will the active streams be looked at, or never?"""
        self._loop = loop
        self._active = active
        self._seen: dict[Stream, tuple[int, float]] = {}  # bytes acknowledged, and since when no more

    def look_soon(self) -> None:
        """Something is being answered. To be called when `looking` is false."""
        self.looking = True
        self._loop.call_later(self.write.length / LOOKS, self._look)

    def _look(self) -> None:
        self.looking = False
        now, before, self._seen = self._loop.now, self._seen, {}
        for stream in [each.stream for each in self._active]:  # to end one may change what is active
            count = acknowledged(stream.sock)
            if count is None:
                continue
            last, since = before.get(stream, (count, now))
            if last != count:
                since = now
            if now - since >= self.write.length:
                stream.abort()
            else:
                self._seen[stream] = count, since
        if self._active:
            self.look_soon()


def acknowledged(sock: socket.socket) -> int | None:
    """Bytes that the client has acknowledged so far; None when nothing is outstanding, or where that cannot be told."""
    assert TCP_INFO is not None
    try:
        if not any(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))):
            return None
        count = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, ACKNOWLEDGED.stop)[ACKNOWLEDGED]
    except (OSError, ValueError):  # not TCP; closed
        return None
    return int.from_bytes(count, sys.byteorder) if len(count) == 8 else None
