"""A connected socket as a stream of bytes, with bounds in both directions.

Reading: what arrives is handed to the owner at once; the owner pauses reading when it has enough.
Writing: what the kernel does not take is kept, in order, as bytes or as parts of files. Above the high-water
mark the owner should write no more; when it falls to the low-water mark, or the client is gone, the owner hears of it.
Progress is watched by a deadline: a client that takes nothing for its length is cut off.

    OPEN       reads and writes
    CLOSING    writes what is left, then closes; lingers, if the client has sent more or not taken all meanwhile
    LINGERING  has said that it writes no more, and throws away what still arrives, so that the kernel does not
               answer unread bytes with a reset that would destroy the last response (RFC 9112, 9.6)
    CLOSED     the descriptor is given back

Owner: one worker's thread.
"""

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, Protocol

from pounce.kernel.loop import READ, WRITE, Loop
from pounce.net.file_part import BURST, FilePart
from pounce.net.progress import TCP_NOTSENT_LOWAT, StreamBounds, outstanding, unread

READ_SIZE = 131072  # a WebSocket message of 64 KiB comes in one piece: 38 us instead of 46 for its echo
HIGH_WATER = 65536
LOW_WATER = 16384
JOIN_BELOW = 8192
"""Copying this much into one string costs less than a system call with two buffers."""
LITTLE = 512
"""What waits in pieces of less is joined: an object for every few bytes would cost many times the bytes."""
MAX_BUFFERS = 64  # per system call; the kernel's own bound is IOV_MAX, 1024

LENT_UNSENT = 1 << 20
"""Bytes that the kernel may hold unsent for a client of a large response, instead of what listeners allow each: with
less, 1 MiB leaves in several pieces, at twice the CPU time. `net.bounds` says how many have that at a time."""

LINGER_MOST = 30.0
"""Seconds for a client that goes on sending after it has been answered, as one does that uploads slowly: nginx's
lingering_time. Without a byte it has the length of `StreamBounds.linger`."""

MSG_MORE = getattr(socket, "MSG_MORE", 0)  # Linux: what follows belongs into the same packet

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds

type State = Literal["open", "closing", "lingering", "closed"]
OPEN: Final = "open"
CLOSING: Final = "closing"
LINGERING: Final = "lingering"
CLOSED: Final = "closed"


class StreamOwner(Protocol):
    """What a stream tells."""

    def received(self, data: bytes) -> None:
        """Bytes from the client."""

    def ended(self) -> None:
        """The client will send no more. It may still read."""

    def drained(self) -> None:
        """What waits to be written has fallen to the low-water mark."""

    def lost(self, error: OSError | None) -> None:
        """The connection is gone, for whatever reason: by an error, or because it was closed here. Called once,
        and the last call."""


class Stream:
    __slots__ = ("_bounds", "_buffer", "_corked", "_interest", "_lent", "_linger_ends", "_loop", "_owner", "_sock",
                 "buffered", "reading", "state")  # fmt: skip

    def __init__(self, loop: Loop, sock: socket.socket, owner: StreamOwner, bounds: StreamBounds) -> None:
        self._loop = loop
        self._sock = sock
        self._owner = owner
        self._bounds = bounds
        self._buffer: deque[memoryview | bytearray | FilePart] | None = None  # made when first needed: most never are
        self._corked = False  # is it kept back only for what follows in this turn?
        self._lent = False
        self._linger_ends = 0.0
        self.buffered = 0
        """Bytes that wait to be written; above HIGH_WATER, whoever writes should wait for `drained`."""
        self.reading = True
        """Is what arrives wanted?"""
        self._interest = READ
        self.state: State = OPEN
        loop.watch(sock, READ, self._ready)

    @property
    def sock(self) -> socket.socket:
        """The socket, to ask it for its names and options; not for reading or writing."""
        return self._sock

    def hand_over(self, owner: StreamOwner) -> None:
        """Tells another owner from now on: another protocol has begun."""
        self._owner = owner

    # Reading

    def _ready(self, events: int) -> None:
        if events & WRITE and self.state is not CLOSED:
            self._flush()
        if not events & READ or self.state is CLOSED:
            return
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if self.state is OPEN:
            if data:
                self._owner.received(data)
            else:
                self.reading = False  # an end stays readable for ever
                self._watch()
                self._owner.ended()
        elif data:
            self._bounds.settle.disarm(self)  # who still sends has the time to come to an end
            if self._loop.now < self._linger_ends:
                self._bounds.linger.arm(self)
        elif self.buffered:  # it may still read
            self.state = CLOSING
            self._watch()
        else:
            self._lose(None)

    def read_now(self) -> None:
        """Takes what lies in the kernel's buffer already, without waiting for the loop to say so."""
        if self.state is OPEN and self.reading:
            self._ready(READ)

    @property
    def unread(self) -> bool:
        """Does something lie in the kernel's buffer? Costs a system call."""
        return unread(self._sock) > 0

    def pause_reading(self) -> None:
        if self.reading:
            self.reading = False
            self._watch()

    def resume_reading(self) -> None:
        if not self.reading and self.state is OPEN:
            self.reading = True
            self._watch()

    def _watch(self) -> None:
        """Asks the selector for what is wanted now, if that has changed."""
        if self.state is CLOSED:
            return
        reading = self.reading if self.state is OPEN else self.state is LINGERING
        interest = (READ if reading else 0) | (WRITE if self.buffered and not self._corked else 0)
        if interest == self._interest:
            return
        if not interest:
            self._loop.unwatch(self._sock)
        elif self._interest:
            self._loop.rewatch(self._sock, interest, self._ready)
        else:
            self._loop.watch(self._sock, interest, self._ready)
        self._interest = interest

    # Writing

    def write(self, data: bytes) -> None:
        """Sends `data` in one system call if the kernel takes it, and keeps what it does not take."""
        if self.buffered:
            if self.state is OPEN and data:
                self._keep(memoryview(data))
                if self._corked:
                    self._uncork()
        elif self.state is OPEN:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            if sent < len(data):
                self._keep(memoryview(data)[sent:])
                self._borrow()

    def write_parts(self, parts: Sequence[bytes]) -> None:
        """Sends several byte strings in one system call, without joining the large ones."""
        total = sum(map(len, parts))
        if total <= JOIN_BELOW or self.buffered or self.state is not OPEN:
            for part in (b"".join(parts),) if total <= JOIN_BELOW else parts:
                self.write(part)
            return
        try:
            sent = self._sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        for part in parts:
            if sent < len(part):
                self._keep(memoryview(part)[sent:])
            sent = max(0, sent - len(part))
        self._borrow()

    def write_soon(self, parts: Sequence[bytes]) -> None:
        """Keeps what there is more to come after: what is written piece by piece in one turn leaves in one system
        call, at its end at the latest. For 16 parts of 4 KiB that halves the CPU time."""
        size = sum(map(len, parts))
        if self.state is not OPEN or not size:
            return
        if not self.buffered:
            self._corked = True
            self._loop.call_soon(self._uncork)
        if size <= JOIN_BELOW:
            parts = (b"".join(parts),)
        for part in parts:
            self._append(part)
        self.buffered += size
        if self.buffered > HIGH_WATER and self._corked:
            self._uncork()

    def _uncork(self) -> None:
        if self._corked:
            self._bounds.write.arm(self)
            self._bounds.look_soon()
            self._flush()
            self._corked = False
            self._watch()

    def write_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Sends `head`, and `count` bytes of the file open at `fd` by the kernel's own hands. The stream closes
        `fd`."""
        if self.state is not OPEN or not count:
            os.close(fd)
            self.write(head)
            return
        part = FilePart(fd, offset, count)
        if not self.buffered:
            with contextlib.suppress(OSError):  # whatever it is, the next call says it again
                head = head[self._sock.send(head, MSG_MORE) :]
                if not head:
                    part.send(self._sock)
            if not part.remaining:
                part.close()
                return
        if head:
            self._keep(memoryview(head))
        self._keep(part)
        self._uncork()
        self._borrow()

    def _keep(self, part: memoryview | FilePart) -> None:
        self._append(part)
        if not self.buffered:
            self._bounds.write.arm(self)
        self.buffered += len(part)
        self._watch()

    def _append(self, part: bytes | memoryview | FilePart) -> None:
        if self._buffer is None:
            self._buffer = deque()
        if isinstance(part, FilePart) or len(part) >= LITTLE:
            self._buffer.append(memoryview(part) if isinstance(part, bytes) else part)
            return
        last = self._buffer[-1] if self._buffer else None
        if isinstance(last, bytearray) and len(last) < JOIN_BELOW:
            last += part
        else:
            self._buffer.append(bytearray(part))

    def _flush(self) -> None:
        buffer = self._buffer
        if not buffer:
            return
        was_full = self.buffered > LOW_WATER and not self._corked
        try:
            first = buffer[0]
            if isinstance(first, FilePart):
                self.buffered -= first.send(self._sock)
                if not first.remaining:
                    buffer.popleft()
                    first.close()
            else:
                self._send_bytes()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if self.buffered:
            self._bounds.write.arm(self)
            self._borrow()
        else:
            self._bounds.write.disarm(self)
            self._watch()
            if self.state is not OPEN:
                self._finish()
        if was_full and self.buffered <= LOW_WATER and self.state is OPEN:
            self._owner.drained()

    def _borrow(self) -> None:
        """More waits than the kernel takes: lets it take more from the next turn on, if there is a loan left."""
        if not self.buffered:
            return
        bounds = self._bounds
        bounds.look_soon()
        if not self._lent and bounds.loans:
            with contextlib.suppress(OSError):  # not TCP
                self._sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, LENT_UNSENT)
                self._lent = True
                bounds.loans -= 1

    def _send_bytes(self) -> None:
        assert self._buffer is not None
        buffer = self._buffer
        parts: list[memoryview | bytearray] = []
        size = 0
        for part in buffer:
            if isinstance(part, FilePart) or len(parts) == MAX_BUFFERS or size >= BURST:
                break
            parts.append(part)
            size += len(part)
        sent = self._sock.sendmsg(parts)
        self.buffered -= sent
        for part in parts:
            buffer.popleft()
            if sent < len(part):
                buffer.appendleft(part[sent:])
                break
            sent -= len(part)

    # Ending

    def close(self, *, linger: bool = False) -> None:
        """Writes what is left, then closes. With `linger`, for a client that may still be sending."""
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
        """All is written. A reset would destroy what is still on its way to the client, and comes of closing with bytes
        unread, or of bytes that arrive later."""
        if self.state is CLOSING and not self.unread:
            if not outstanding(self._sock):
                self._lose(None)
                return
            self._bounds.settle.arm(self)
        self.state = LINGERING
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)
            return
        self._linger_ends = self._loop.now + LINGER_MOST - self._bounds.linger.length
        self._bounds.linger.arm(self)
        self._watch()

    def end(self) -> None:
        """Closes now, whatever the client does. The kernel goes on with what it has for a client that is only slow."""
        self._lose(None)

    def abort(self) -> None:
        """Gives the connection up at once, by a reset: the client must not take what it has for the whole."""
        if self.state is not CLOSED:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._interest:
            self._loop.unwatch(self._sock)
            self._interest = 0
        self.state = CLOSED
        self._bounds.loans += self._lent
        self._bounds.write.disarm(self)
        self._bounds.linger.disarm(self)
        self._bounds.settle.disarm(self)
        self.buffered = 0
        self._corked = False
        for part in self._buffer or ():
            if isinstance(part, FilePart):
                part.close()
        self._buffer = None
        self._sock.close()
        owner = self._owner
        del self._owner  # else the two would hold each other until the collector comes
        owner.lost(error)
