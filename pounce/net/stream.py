"""A connected socket as a `ByteStream`.

Reading: what arrives is passed to the owner at once; the owner pauses reading when it has enough.

Writing: what the kernel does not take is buffered in order, as bytes or as parts of files. Above HIGH_WATER the owner
writes no more, until the buffer has fallen to LOW_WATER. A client that takes nothing for the length of
`--timeout-write` is aborted (`net.progress`).

    OPEN       reads and writes
    CLOSING    writes what is buffered, then closes; lingers first, where the client has sent more meanwhile or has not
               acknowledged all
    LINGERING  has shut down its writing side, and throws away what still arrives: the kernel would answer unread bytes
               with a reset, which destroys the last response (RFC 9112, section 9.6)
    CLOSED     the descriptor is closed

Owner: one worker's thread.
"""

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from pounce.kernel.loop import READ, WRITE, Loop
from pounce.net.byte_stream import HIGH_WATER, LOW_WATER, Detached, Peer, StreamOwner
from pounce.net.file_part import FilePart
from pounce.net.listeners import MAX_UNSENT
from pounce.net.progress import TCP_NOTSENT_LOWAT, Progress, outstanding, unread
from pounce.net.write_buffer import JOIN_BELOW as JOIN_BELOW
from pounce.net.write_buffer import Part, append, send_bytes

READ_SIZE = 131072  # a WebSocket message of 64 KiB comes in one piece: 38 us instead of 46 for its echo

MAX_UNSENT_LARGE = 1 << 20
"""Bytes that the kernel may hold unsent for a client of a large response, instead of MAX_UNSENT: with less,
1 MiB leaves in several pieces, at twice the CPU time. `progress.LARGE_BUFFERS` connections may have that at a time."""

MAX_LINGER = 30.0
"""Seconds for a client that goes on sending after it has been answered, as in a slow upload: nginx's lingering_time. A
client that sends nothing has the length of `Progress.linger`."""

MSG_MORE = getattr(socket, "MSG_MORE", 0)  # Linux: what follows belongs into the same packet

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds

type State = Literal["open", "closing", "lingering", "closed"]
OPEN: Final = "open"
CLOSING: Final = "closing"
LINGERING: Final = "lingering"
CLOSED: Final = "closed"


TRANSITIONS: dict[State, tuple[State, ...]] = {
    OPEN: (CLOSING, LINGERING, CLOSED),
    CLOSING: (LINGERING, CLOSED),
    LINGERING: (CLOSING, CLOSED),
    CLOSED: (),
}
"""From each state, the states that may follow."""


class SocketStream:
    __slots__ = ("_at_eof", "_buffer", "_corked", "_interest", "_large_buffer", "_linger_ends", "_loop", "_owner",
                 "_progress", "buffered", "peer", "reading", "sock", "state")  # fmt: skip

    def __init__(
        self, loop: Loop, sock: socket.socket, peer: Peer, progress: Progress, unsent: Sequence[Part] = ()
    ) -> None:
        """`sock` is connected and non-blocking, and the stream's from now on. `set_owner` must follow in this turn.
        `unsent` is what another stream has left."""
        self._loop = loop
        self.sock = sock
        """To ask the kernel about it; not for reading or writing."""
        self._owner: StreamOwner
        self.peer = peer
        self._progress = progress
        self._buffer: deque[Part] | None = None  # made when first needed: most never are
        self._corked = False  # is the buffer held back only for what follows in this turn?
        self._large_buffer = False
        self._linger_ends = 0.0
        self.buffered = 0
        self.reading = True
        self._at_eof = False  # has the owner been told that the client sends no more?
        self._interest = READ
        self.state: State = OPEN
        loop.watch(sock, READ, self._ready)
        if unsent:
            for part in unsent:
                self._buffer_part(part)
            self._enlarge_buffer()

    @property
    def is_open(self) -> bool:
        return self.state is OPEN

    def set_owner(self, owner: StreamOwner) -> None:
        self._owner = owner

    # Reading

    def _ready(self, events: int) -> None:
        if events & WRITE and self.state is not CLOSED:
            self._flush()
        if not events & READ or self.state is CLOSED:
            return
        try:
            data = self.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close_socket(error)
            return
        if self.state is OPEN:
            if data:
                self._owner.data_received(data)
            else:
                self._at_eof = True  # for good: a socket at its end stays readable
                self.reading = False
                self._watch()
                self._owner.eof_received()
        elif data:
            self._progress.fin_wait.disarm(self)  # a client that still sends has the time of `linger`
            if self._loop.now < self._linger_ends:
                self._progress.linger.arm(self)
        elif self.buffered:  # the client may still read
            self.state = CLOSING
            self._watch()
        else:
            self._close_socket(None)

    def poll(self) -> None:
        if self.state is OPEN and self.reading:
            self._ready(READ)

    @property
    def unread(self) -> bool:
        return unread(self.sock) > 0

    def pause_reading(self) -> None:
        if self.reading:
            self.reading = False
            self._watch()

    def resume_reading(self) -> None:
        if not self.reading and self.state is OPEN and not self._at_eof:
            self.reading = True
            self._watch()

    def _watch(self) -> None:
        """Registers with the selector what is wanted now, if that has changed."""
        if self.state is CLOSED:
            return
        reading = self.reading if self.state is OPEN else self.state is LINGERING
        interest = (READ if reading else 0) | (WRITE if self.buffered and not self._corked else 0)
        if interest == self._interest:
            return
        if not interest:
            self._loop.unwatch(self.sock)
        elif self._interest:
            self._loop.rewatch(self.sock, interest, self._ready)
        else:
            self._loop.watch(self.sock, interest, self._ready)
        self._interest = interest

    # Writing

    def write(self, data: bytes) -> None:
        """Sends `data` in one system call if the kernel takes it, and buffers what it does not take."""
        if self.buffered:
            if self.state is OPEN and data:
                self._buffer_part(memoryview(data))
                if self._corked:
                    self._uncork()
        elif self.state is OPEN:
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._close_socket(error)
                return
            if sent < len(data):
                self._buffer_part(memoryview(data)[sent:])
                self._enlarge_buffer()

    def write_parts(self, parts: Sequence[bytes]) -> None:
        """Sends several byte strings in one system call, without joining the large ones."""
        total = sum(map(len, parts))
        if total <= JOIN_BELOW or self.buffered or self.state is not OPEN:
            for part in (b"".join(parts),) if total <= JOIN_BELOW else parts:
                self.write(part)
            return
        try:
            sent = self.sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._close_socket(error)
            return
        for part in parts:
            if sent < len(part):
                self._buffer_part(memoryview(part)[sent:])
            sent = max(0, sent - len(part))
        self._enlarge_buffer()

    def write_soon(self, parts: Sequence[bytes]) -> None:
        """Holds the parts back for more: all parts of one turn leave in one system call, at its end at the latest. For
        16 parts of 4 KiB that halves the CPU time."""
        size = sum(map(len, parts))
        if self.state is not OPEN or not size:
            return
        if not self.buffered:
            self._corked = True
            self._loop.call_soon(self._uncork)
        if size <= JOIN_BELOW:
            parts = (b"".join(parts),)
        if self._buffer is None:
            self._buffer = deque()
        for part in parts:
            append(self._buffer, part)
        self.buffered += size
        if self.buffered > HIGH_WATER and self._corked:
            self._uncork()

    def _uncork(self) -> None:
        if self._corked:
            self._progress.write.arm(self)
            self._progress.scan_soon()
            self._flush()
            self._corked = False
            self._watch()

    def expect_progress(self) -> None:
        self._progress.scan_soon()

    def write_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """The kernel copies the file to the socket (sendfile)."""
        if self.state is not OPEN or not count:
            os.close(fd)
            self.write(head)
            return
        part = FilePart(fd, offset, count)
        if not self.buffered:
            with contextlib.suppress(OSError):  # whatever it is, the next call raises it again
                head = head[self.sock.send(head, MSG_MORE) :]
                if not head:
                    part.send(self.sock)
            if not part.remaining:
                part.close()
                return
        if head:
            self._buffer_part(memoryview(head))
        self._buffer_part(part)
        self._uncork()
        self._enlarge_buffer()

    def _buffer_part(self, part: Part) -> None:
        if self._buffer is None:
            self._buffer = deque()
        append(self._buffer, part)
        if not self.buffered:
            self._progress.write.arm(self)
        self.buffered += len(part)
        self._watch()

    def _flush(self) -> None:
        buffer = self._buffer
        if not buffer:
            return
        was_full = self.buffered > LOW_WATER and not self._corked
        try:
            first = buffer[0]
            if isinstance(first, FilePart):
                self.buffered -= first.send(self.sock)
                if not first.remaining:
                    buffer.popleft()
                    first.close()
            else:
                self.buffered -= send_bytes(self.sock, buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close_socket(error)
            return
        if self.buffered:
            self._progress.write.arm(self)
            self._enlarge_buffer()
        else:
            self._progress.write.disarm(self)
            self._watch()
            if self.state is not OPEN:
                self._finish()
        if was_full and self.buffered <= LOW_WATER and self.state is OPEN:
            self._owner.write_resumed()

    def _enlarge_buffer(self) -> None:
        """More is buffered than the kernel takes: lets it take more from the next turn on, if another stream may."""
        if not self.buffered:
            return
        progress = self._progress
        progress.scan_soon()
        if not self._large_buffer and progress.large_buffers:
            with contextlib.suppress(OSError):  # not TCP
                self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT_LARGE)
                self._large_buffer = True
                progress.large_buffers -= 1

    # Ending

    def detach(self) -> Detached | None:
        self._uncork()  # which may find that the client has gone
        if self.state is not OPEN:
            return None
        if self._large_buffer:
            with contextlib.suppress(OSError):  # whoever goes on may not have one to spare
                self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT)
        unsent, self._buffer = self._buffer or (), None
        self._end()
        return Detached(self.sock, unsent)

    def close(self, *, linger: bool = False) -> None:
        """Sends what is buffered, then closes. With `linger`, for a client that may still be sending."""
        if self._corked:
            self._uncork()
        if self.state is OPEN:
            self.state = LINGERING if linger else CLOSING
            self.reading = False
            if self.buffered:
                self._watch()
            else:
                self._finish()

    def _finish(self) -> None:
        """The kernel has taken all. Closing now with bytes unread, or with bytes that arrive later, makes TCP reset the
        connection, which destroys what is still on its way to the client."""
        if self.state is CLOSING and not self.unread:
            if not outstanding(self.sock):
                self._close_socket(None)
                return
            self._progress.fin_wait.arm(self)
        self.state = LINGERING
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._close_socket(error)
            return
        self._linger_ends = self._loop.now + MAX_LINGER - self._progress.linger.length
        self._progress.linger.arm(self)
        self._watch()

    def close_now(self) -> None:
        """Closes now. The kernel goes on sending what it has taken, for a client that is only slow."""
        if self.state is not CLOSED:
            self._close_socket(None)

    def abort(self) -> None:
        """Resets the connection: the client must not take what it has for the whole."""
        if self.state is not CLOSED:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._close_socket(None)

    def _end(self) -> StreamOwner:
        """Takes it out of the loop and of all deadlines. Gives back its owner, and no longer references it: both would
        be a cycle, which only the collector frees."""
        if self._interest:
            self._loop.unwatch(self.sock)
            self._interest = 0
        self.state = CLOSED
        self._progress.large_buffers += self._large_buffer
        self._progress.write.disarm(self)
        self._progress.linger.disarm(self)
        self._progress.fin_wait.disarm(self)
        self.buffered = 0
        self._corked = False
        owner = self._owner
        del self._owner
        return owner

    def _close_socket(self, error: OSError | None) -> None:
        owner = self._end()
        for part in self._buffer or ():
            if isinstance(part, FilePart):
                part.close()
        self._buffer = None
        self.sock.close()
        owner.connection_lost(error)
