"""How long a client may take nothing of what is sent to it, and how much the kernel may hold meanwhile.

What the kernel does not take waits in a stream, whose deadline begins anew when it takes more. But it takes more in
large pieces, which a slow client is long about; and what it has taken may lie there as well: for a client that has
vanished until TCP gives up, which is a quarter of an hour, for one that does not read for ever. So where the kernel
tells what a client has acknowledged (Linux, over TCP), that decides. The streams on which something is being sent are
looked at a few times within the deadline's length. One whose client has acknowledged nothing for that length, with
something outstanding all the time, is ended.

(TCP_USER_TIMEOUT looks like the remedy and is none: Linux counts it from the first full window on, and cuts off slow
readers that acknowledge.)

Owner: one worker's thread.
"""

import fcntl
import socket
import sys
import termios
from collections.abc import Collection
from typing import Protocol

from pounce.kernel.deadlines import DeadlineQueue
from pounce.kernel.loop import Loop, Timer

TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 0)
LOANS = 64
"""Open connections of a worker that may have more in the kernel than the others: what it holds for slow readers has a
bound. (What is closed is the kernel's own affair: net.ipv4.tcp_max_orphans, tcp_mem.)"""

LOOKS = 8  # within the deadline's length: an end comes at most an eighth late
SETTLE = 0.2  # seconds between two looks whether the end of a response has arrived
NOTHING = -1  # is outstanding
PER_TURN = 500  # streams looked at: a millisecond or two

TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux
ACKNOWLEDGED, SEGMENTS = slice(120, 128), slice(136, 140)
"""Where `struct tcp_info` has tcpi_bytes_acked and tcpi_segs_out (linux/tcp.h, Linux 4.2). Kernels that only look like
Linux fill in less: one that has sent no segment has not counted what was acknowledged."""


class Bounded(Protocol):
    """A stream, as far as it is known here."""

    @property
    def sock(self) -> socket.socket: ...
    def abort(self) -> None: ...
    def end(self) -> None: ...


class Sender(Protocol):
    """What may be sending on a stream."""

    @property
    def sends_on(self) -> Bounded | None: ...


class StreamBounds:
    """The deadlines and the loans that all streams of one worker share."""

    def __init__(self, loop: Loop, write: float | None, linger: float, senders: Collection[Sender]) -> None:
        """`write` and `linger` are lengths in seconds; `senders` is what may be sending, now and later."""
        self.write: DeadlineQueue[Bounded] = loop.deadlines(write, self._took_nothing)
        """Of streams that have something which the kernel does not take. Whoever arms it calls `look_soon`."""
        self.linger: DeadlineQueue[Bounded] = loop.deadlines(linger, self._lingered)
        self.settle: DeadlineQueue[Bounded] = loop.deadlines(SETTLE, self._settle)
        self.loans = LOANS if TCP_NOTSENT_LOWAT else 0
        self._looks = write is not None and TCP_INFO is not None
        self._loop = loop
        self._senders = senders
        self._next: Timer | None = None  # look
        self._left: list[Bounded] = []  # to look at in this look
        self._seen: dict[Bounded, tuple[int, float]] = {}  # bytes acknowledged, and since when no more
        self._seeing: dict[Bounded, tuple[int, float]] = {}  # the same, of this look

    def look_soon(self) -> None:
        """Something is being sent that may take a while."""
        if self._next is None and self._looks:
            self._next = self._loop.call_later(self.write.length / LOOKS, self._begin_look)

    def _begin_look(self) -> None:
        self._next = None
        self.look_soon()  # first: an error in this look is not the end of all
        senders = {stream for each in self._senders if (stream := each.sends_on) is not None}
        self._left = list(senders.union(self.write, self.linger))
        self._seeing = {}
        self._look()

    def _look(self) -> None:
        now = self._loop.now
        for stream in self._left[-PER_TURN:]:
            count = acknowledged(stream.sock)
            if count is None or count == NOTHING:
                continue
            last, since = self._seen.get(stream, (count, now))
            if last != count:
                since = now
            if now - since >= self.write.length:
                stream.abort()
            else:
                self._seeing[stream] = count, since
        del self._left[-PER_TURN:]
        if self._left:
            self._loop.call_soon(self._look)
            return
        self._seen = self._seeing
        if self._next is not None and not (self._senders or self.write or self.linger):
            self._next.cancel()
            self._next = None
            self._seen = {}  # else it would keep closed streams

    def _took_nothing(self, stream: Bounded) -> None:
        """The kernel took nothing in time. If it can tell what the client has acknowledged, the looks decide."""
        if acknowledged(stream.sock) is None:
            stream.abort()
        else:
            self.write.arm(stream)
            self.look_soon()

    def _settle(self, stream: Bounded) -> None:
        """All is sent, and the client sends nothing more. Has it acknowledged?"""
        if outstanding(stream.sock):
            self.settle.arm(stream)
        else:
            stream.end()

    def _lingered(self, stream: Bounded) -> None:
        """The client had its time to come to an end. If it only takes the rest slowly, the looks decide."""
        if self._looks and outstanding(stream.sock):
            self.linger.arm(stream)
            self.look_soon()
        else:
            stream.end()


def unread(sock: socket.socket) -> int:
    """Bytes that lie in the kernel's buffer. Linux tells of all the messages together, where there are messages."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)


def outstanding(sock: socket.socket) -> bool:
    """Is something that was sent not acknowledged yet, so that a reset would destroy it? (Not over a Unix socket.)"""
    try:
        waits = any(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return False
    return waits and sock.family != socket.AF_UNIX  # asked last: it makes an enumeration's member


def acknowledged(sock: socket.socket) -> int | None:
    """Bytes that the client has acknowledged so far, or NOTHING; None where that cannot be told."""
    if TCP_INFO is None or sock.fileno() < 0:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, SEGMENTS.stop)
    except OSError:
        return None
    if not any(info[SEGMENTS]):
        return None
    return int.from_bytes(info[ACKNOWLEDGED], sys.byteorder) if outstanding(sock) else NOTHING
