"""Write progress: how long a client may take nothing of what is sent to it, and how much the kernel may hold meanwhile.

What the kernel does not take stays in the stream's buffer, whose deadline begins anew with every byte that the kernel
takes. That alone does not tell a slow client from one that has gone. The kernel takes bytes in large pieces, which a
slow client needs long for. And the kernel goes on holding what a vanished client never acknowledges: a quarter of an
hour until TCP gives up, and for ever where the client is there and does not read.

So acknowledgements decide, where the kernel tells of them (Linux, over TCP). The streams on which something is being
sent are scanned a few times within the length of the deadline. A stream is aborted when bytes were outstanding for
that whole length and the client has acknowledged none.

TCP_USER_TIMEOUT cannot do this: Linux counts it from the first full window on, so it ends slow readers that
acknowledge.

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
LARGE_BUFFERS = 64
"""Open connections of a worker for which the kernel may hold more than for others: what it holds for slow readers is
bounded. (For closed connections net.ipv4.tcp_max_orphans and tcp_mem are the bounds.)"""

SCANS = 8  # within the length of the deadline: a stream is aborted at most an eighth late
FIN_WAIT = 0.2  # seconds between two checks whether the end of a response is acknowledged
NONE_OUTSTANDING = -1  # in place of a count of acknowledged bytes: all are
MAX_PER_TURN = 500  # streams that are scanned: a millisecond or two

TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux
ACKNOWLEDGED, SEGMENTS = slice(120, 128), slice(136, 140)
"""Where `struct tcp_info` has tcpi_bytes_acked and tcpi_segs_out (linux/tcp.h, Linux 4.2). Kernels that only look like
Linux fill in less: one that has sent no segment has not counted what was acknowledged."""


class MonitoredStream(Protocol):
    """A stream, as far as its progress needs it."""

    @property
    def sock(self) -> socket.socket: ...
    def abort(self) -> None: ...
    def close_now(self) -> None: ...


class Sender(Protocol):
    """What may be sending on a stream: an exchange."""

    @property
    def sending_stream(self) -> MonitoredStream | None: ...


class Progress:
    """The deadlines of all streams of one worker, and how many more of them may have a large buffer in the kernel."""

    def __init__(self, loop: Loop, write: float | None, linger: float, senders: Collection[Sender]) -> None:
        """`write` and `linger` are lengths in seconds; `senders` is what may be sending, now and later."""
        self.write: DeadlineQueue[MonitoredStream] = loop.deadlines(write, self._write_timed_out)
        """Of streams whose buffer the kernel does not take. The stream that arms it calls `scan_soon` as well."""
        self.linger: DeadlineQueue[MonitoredStream] = loop.deadlines(linger, self._linger_timed_out)
        self.fin_wait: DeadlineQueue[MonitoredStream] = loop.deadlines(FIN_WAIT, self._check_fin_wait)
        self.large_buffers = LARGE_BUFFERS if TCP_NOTSENT_LOWAT else 0
        self._can_scan = write is not None and TCP_INFO is not None
        self._loop = loop
        self._senders = senders
        self._next_scan: Timer | None = None
        self._to_scan: list[MonitoredStream] = []
        self._acked: dict[MonitoredStream, tuple[int, float]] = {}  # bytes acknowledged, and since when no more
        self._acked_now: dict[MonitoredStream, tuple[int, float]] = {}  # the same, as of this scan

    def scan_soon(self) -> None:
        """Something is being sent that may take a while."""
        if self._next_scan is None and self._can_scan:
            self._next_scan = self._loop.call_later(self.write.length / SCANS, self._begin_scan)

    def _begin_scan(self) -> None:
        self._next_scan = None
        self.scan_soon()  # first: an error in this scan must not end all scans
        senders = {stream for each in self._senders if (stream := each.sending_stream) is not None}
        self._to_scan = list(senders.union(self.write, self.linger))
        self._acked_now = {}
        self._scan()

    def _scan(self) -> None:
        now = self._loop.now
        for stream in self._to_scan[-MAX_PER_TURN:]:
            count = acknowledged(stream.sock)
            if count is None or count == NONE_OUTSTANDING:
                continue
            last, since = self._acked.get(stream, (count, now))
            if last != count:
                since = now
            if now - since >= self.write.length:
                stream.abort()
            else:
                self._acked_now[stream] = count, since
        del self._to_scan[-MAX_PER_TURN:]
        if self._to_scan:
            self._loop.call_soon(self._scan)
            return
        self._acked = self._acked_now
        if self._next_scan is not None and not (self._senders or self.write or self.linger):
            self._next_scan.cancel()
            self._next_scan = None
            self._acked = {}  # else it would keep closed streams

    def _write_timed_out(self, stream: MonitoredStream) -> None:
        """The kernel took nothing in time. If it can tell what the client has acknowledged, the scans decide."""
        if acknowledged(stream.sock) is None:
            stream.abort()
        else:
            self.write.arm(stream)
            self.scan_soon()

    def _check_fin_wait(self, stream: MonitoredStream) -> None:
        """All is sent, and the client sends nothing more. Has it acknowledged?"""
        if outstanding(stream.sock):
            self.fin_wait.arm(stream)
        else:
            stream.close_now()

    def _linger_timed_out(self, stream: MonitoredStream) -> None:
        """The client had its time to come to an end. If it only takes the rest slowly, the scans decide."""
        if self._can_scan and outstanding(stream.sock):
            self.linger.arm(stream)
            self.scan_soon()
        else:
            stream.close_now()


def unread(sock: socket.socket) -> int:
    """Bytes in the kernel's receive buffer; of all messages together, where there are messages (Linux)."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)


def outstanding(sock: socket.socket) -> bool:
    """Is something that was sent not acknowledged yet, so that a reset would destroy it? (Not over a Unix socket.)"""
    try:
        waits = any(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return False
    return waits and sock.family != socket.AF_UNIX  # asked last: it makes an enumeration's member


def acknowledged(sock: socket.socket) -> int | None:
    """Bytes that the client has acknowledged so far, or NONE_OUTSTANDING; None where that cannot be told."""
    if TCP_INFO is None or sock.fileno() < 0:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, SEGMENTS.stop)
    except OSError:
        return None
    if not any(info[SEGMENTS]):
        return None
    return int.from_bytes(info[ACKNOWLEDGED], sys.byteorder) if outstanding(sock) else NONE_OUTSTANDING
