"""Implementations of `ByteStream`, each with the client's end of it. `test_byte_stream` runs on all of them.

A new implementation adds an entry to IMPLEMENTATIONS.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from pounce.net.byte_stream import ByteStream, Detached, Peer, StreamOwner
from pounce.net.progress import Progress
from pounce.net.stream import SocketStream
from tests.support.harness import skipping_loop

PATIENCE = 20.0  # seconds until a test that waits for the kernel fails
WRITE_TIMEOUT = 30.0


class Recorder:
    """A `StreamOwner` that keeps what it is told, and checks that nothing follows the loss."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.events: list[Any] = []
        self.lost: list[OSError | None] = []

    def _note(self, event: Any) -> None:
        self.events.append("after the loss" if self.lost else event)

    @property
    def data(self) -> bytes:
        return b"".join(event for event in self.events if isinstance(event, bytes))

    def data_received(self, data: bytes) -> None:
        self._note(data or "empty data")

    def eof_received(self) -> None:
        self._note("eof")

    def write_resumed(self) -> None:
        self._note(("resumed", self.stream.buffered))

    def connection_lost(self, error: OSError | None) -> None:
        self._note("lost")
        self.lost.append(error)


class Ends:
    """Both ends of a stream: `stream` with its recording `owner`, and `client`, a blocking socket."""

    abort_visible = True
    """Can the client tell an abort from an end?"""

    def __init__(self, ours: socket.socket, client: socket.socket) -> None:
        self.loop, self.selector = skipping_loop()
        ours.setblocking(False)
        client.settimeout(PATIENCE)
        self.client = client
        self.progress = Progress(self.loop, write=WRITE_TIMEOUT, linger=5.0, senders=())
        self.stream: ByteStream = self.make_stream(ours)
        self.owner = Recorder(self.stream)
        owner: StreamOwner = self.owner
        self.stream.set_owner(owner)

    def make_stream(self, ours: socket.socket) -> ByteStream:
        return SocketStream(self.loop, ours, Peer(None, None), self.progress)

    def continue_stream(self, detached: Detached) -> ByteStream:
        """A stream that goes on with one that was given up."""
        return SocketStream(self.loop, detached.sock, Peer(None, None), self.progress, detached.unsent)

    def turn(self, times: int = 5) -> None:
        for _ in range(times):
            self.loop.turn(0)

    def until(self, condition: Callable[[], object]) -> None:
        """Turns until the kernel has done its part."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            self.turn(1)

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Lets the loop's time pass, no faster than the loop would turn."""
        while seconds > 0:
            self.selector.skip = min(step, seconds)
            self.turn(3)
            seconds -= step

    def read(
        self, count: int | None = None, *, send: bytes = b"", all_of_it: bool = True
    ) -> tuple[bytes, OSError | None]:
        """What the client reads, to its end or to `count` bytes, while it sends `send`; and the error it sees. Unless
        `all_of_it`, what comes first is enough."""
        got = bytearray()
        errors: list[OSError] = []

        def reader() -> None:
            try:
                while count is None or len(got) < count:
                    part = self.client.recv(65536 if count is None else min(65536, count - len(got)))
                    got.extend(part)
                    if not part or not all_of_it:
                        return
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=reader)]
        if send:
            threads.append(threading.Thread(target=self.client.sendall, args=(send,)))
        for thread in threads:
            thread.start()
        self.until(lambda: not any(thread.is_alive() for thread in threads))
        return bytes(got), errors[0] if errors else None

    def close(self) -> None:
        self.stream.abort()
        self.client.close()
        self.loop.close()


def _small_buffers(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)


def over_tcp() -> Ends:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.socket()
        _small_buffers(listening, client)
        client.connect(listening.getsockname())
        ours, _ = listening.accept()
    return Ends(ours, client)


def over_unix() -> Ends:
    ours, client = socket.socketpair(socket.AF_UNIX)
    _small_buffers(ours, client)
    ends = Ends(ours, client)
    ends.abort_visible = False
    return ends


IMPLEMENTATIONS: dict[str, Callable[[], Ends]] = {"tcp": over_tcp, "unix": over_unix}


def is_open(fd: int, file: os.stat_result) -> bool:
    """Is `file` still open at `fd`? The number may have been given to something else meanwhile."""
    try:
        return os.path.samestat(os.fstat(fd), file)
    except OSError:
        return False
