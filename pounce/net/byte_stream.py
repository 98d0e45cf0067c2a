"""A reliable stream of bytes to one client: what a connection is given, and does not make.

A socket is one (`net.stream`); so are TLS over a socket and the DATA frames of an HTTP/2 CONNECT (RFC 8441). A protocol
is written against `ByteStream` alone, and what implements it calls its owner by `StreamOwner` alone. Every
implementation passes the tests of `tests/contracts`.

Owner: one worker's thread, for both sides.
"""

import socket
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pounce.net.address import Address
from pounce.net.file_part import FilePart

HIGH_WATER = 65536
"""Bytes in a write buffer above which its owner writes no more."""
LOW_WATER = 16384
"""Bytes to which the buffer has to fall until `write_resumed` is called."""


class Peer:
    """Who is at the other end. Final once the first request begins; shared by all requests of a connection that have
    this client: see `for_request`."""

    __slots__ = ("client", "host_text", "proxy", "scheme", "server", "text", "trusted")

    def __init__(
        self, client: Address | None, server: Address | None, scheme: str = "http",
        proxy: dict[str, object] | None = None,
    ) -> None:  # fmt: skip
        self.client = client
        """None over a Unix socket."""
        self.server = server
        self.scheme = scheme
        """ "http", or "https" where the bytes are encrypted, or were until a proxy has passed them on."""
        self.proxy = proxy
        """What the header of the PROXY protocol has said; None where there was none."""
        self.text: str | None = None
        """The client's host and port, as the log has them. Made when first asked for."""
        self.host_text: str | None = None
        """The host alone, in the same way."""
        self.trusted: bool | None = None
        """Are its fields believed in which a proxy says who its client is? None: nobody has asked yet."""

    @property
    def sender(self) -> Address | None:
        """Who has written what comes, and may be trusted or not: the client. None, as over a Unix socket, where a proxy
        passes bytes on for a client without an address: `client` is the proxy then, which has not written them."""
        proxy = self.proxy
        if proxy is not None and proxy["client"] is None and proxy["command"] == "PROXY":
            return None
        return self.client

    def for_request(self, client: Address | None, scheme: str) -> "Peer":
        """The same for one request, of which fields say who has sent it and how."""
        return Peer(client, self.server, scheme, self.proxy)


class Detached(NamedTuple):
    """What is left of a stream that its owner has given up: another stream can go on with it."""

    sock: socket.socket
    unsent: Sequence[memoryview | bytearray | FilePart]
    """The write buffer, in its order."""


class StreamOwner(Protocol):
    """What a stream calls. Nothing is called before `resume_reading` or `poll` has let it, but `connection_lost`."""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client; never empty."""

    def eof_received(self) -> None:
        """The client sends no more, and `reading` ends for good. It may still read. Called once for each stream: an
        owner that comes later has to know from the one before it."""

    def write_resumed(self) -> None:
        """The write buffer was above LOW_WATER and has fallen to it. Not called from `close` on."""

    def connection_lost(self, error: OSError | None) -> None:
        """The stream is closed, by an error, by the client or by its owner. Called once; the last call."""


class ByteStream(Protocol):
    """Calls that read, write or close are ignored from `close` on; `close_now` and `abort` once `connection_lost` has
    been called. Any call that writes may call `connection_lost` before it returns."""

    peer: Peer

    @property
    def sock(self) -> socket.socket:
        """The socket underneath, to ask the kernel about it; not for reading or writing."""

    buffered: int
    """Bytes in the write buffer, the rest of files included. Above HIGH_WATER the owner writes no more until
    `write_resumed`."""
    reading: bool
    """Are bytes from the client passed on?"""

    @property
    def is_open(self) -> bool:
        """Can it still be written to? False from `close` on."""

    def set_owner(self, owner: StreamOwner) -> None:
        """From now on this owner is called: another protocol has begun."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None:
        """Bytes that have arrived meanwhile are passed on from the next turn on, not within this call. Ignored once
        `eof_received` has been called."""

    def poll(self) -> None:
        """Passes on what has arrived already, without waiting for the loop to find it; nothing while reading is
        paused."""

    @property
    def unread(self) -> bool:
        """Has something arrived that was not passed on yet? Costs a system call."""

    def write(self, data: bytes) -> None:
        """Sends `data`, and buffers what the client does not take yet. Bytes leave in the order of the calls, whichever
        way they are written."""

    def write_parts(self, parts: Sequence[bytes]) -> None:
        """As `write` of all parts, in one system call."""

    def write_soon(self, parts: Sequence[bytes]) -> None:
        """As `write_parts`, at the end of this turn at the latest: parts that are written one by one in one turn leave
        together."""

    def write_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Sends `head`, then `count` bytes of the file open at `fd` from `offset` on. The stream closes `fd`: when
        the bytes have been sent, when the stream ends before that, or at once where the call is ignored."""

    def expect_progress(self) -> None:
        """The owner will write for a while: the stream checks that the client acknowledges it, and aborts when it
        acknowledges nothing for the length of `--timeout-write`."""

    def detach(self) -> Detached | None:
        """Gives up an open stream without closing it, so that another thread may go on with it; what was not passed on
        yet is still to be read there. The owner is not called any more, not even by `connection_lost`. None where the
        stream cannot be given up: then nothing has changed, unless it has been lost."""

    def close(self, *, linger: bool = False) -> None:
        """Sends what is buffered, then closes. With `linger`, what the client still sends is read and thrown away
        first, because unread bytes make TCP reset the connection and destroy the last response (RFC 9112, 9.6)."""

    def close_now(self) -> None:
        """Closes before it returns, and throws away what is buffered. The kernel goes on sending what it has taken."""

    def abort(self) -> None:
        """Closes before it returns, so that the client sees an error and not an end. (Over a Unix socket it sees an
        end: the kernel has no reset there.)"""
