"""The floor: a selectors loop that answers whatever it receives with fixed bytes, and never reads the request.

    python stress/bench/floor.py PORT [--answer FILE] [--request-length] [--close] [--workers N]

No server on Python's `selectors` and `socket` can be cheaper: a request costs one `select` (shared by all connections
that are ready), one `recv`, one `send`, and the kernel's work for them. The cost of a real server is given as a
multiple of the floor in the same run.

It must stay this simple. It knows nothing of HTTP, with one exception: where a request may arrive in several pieces (an
upload), the length is read from the first request of a connection, and the others are assumed to be as long.
"""

import argparse
import os
import re
import selectors
import socket
import sys
import threading
from pathlib import Path

HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!"
RECEIVE = 65536  # bytes asked of one recv, as in the server
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection:
    """The state of a connection without a protocol."""

    __slots__ = ("expected", "received", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent: memoryview | None = None  # what the kernel has not taken yet
        self.received = 0  # bytes of the current request; counted only with --request-length
        self.expected = 0  # bytes of every request; 0 until the first is known


class Floor:
    def __init__(self, listener: socket.socket, answer: bytes, *, measured: bool, closing: bool) -> None:
        self.listener = listener
        self.answer = answer
        self.measured = measured
        self.closing = closing
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, None)

    def run(self) -> None:
        select, ready, answer, size = self.selector.select, self.ready, self.answer, len(self.answer)
        plain = not self.measured and not self.closing
        while True:
            for key, _ in select():
                connection = key.data
                if connection is None:
                    self.accept()
                elif not plain or connection.unsent is not None:
                    ready(connection)
                else:
                    # All that the floor does for an ordinary request.
                    sock = connection.sock
                    try:
                        if not sock.recv(RECEIVE):
                            self.end(connection)
                        elif (sent := sock.send(answer)) < size:
                            self.wait(connection, memoryview(answer)[sent:])
                    except OSError:
                        self.end(connection)

    def accept(self) -> None:
        try:
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.selector.register(sock, selectors.EVENT_READ, Connection(sock))
        except BlockingIOError:
            pass

    def ready(self, connection: Connection) -> None:
        """The other cases: the rest of a response, a request in pieces, a connection for one request."""
        try:
            if connection.unsent is not None:
                self.write(connection, connection.unsent)
                return
            data = connection.sock.recv(RECEIVE)
            if not data:
                self.end(connection)
            elif not self.measured or self.complete(connection, data):
                self.write(connection, memoryview(self.answer))
        except OSError:
            self.end(connection)

    def complete(self, connection: Connection, data: bytes) -> bool:
        """Is the request complete?"""
        if not connection.expected:
            found = CONTENT_LENGTH.search(data)
            connection.expected = data.index(b"\r\n\r\n") + 4 + (int(found[1]) if found else 0)
        connection.received += len(data)
        if connection.received < connection.expected:
            return False
        connection.received = 0
        return True

    def write(self, connection: Connection, data: memoryview) -> None:
        sent = connection.sock.send(data)
        if sent < len(data):
            self.wait(connection, data[sent:])
            return
        if self.closing:
            self.end(connection)
        elif connection.unsent is not None:
            connection.unsent = None
            self.selector.modify(connection.sock, selectors.EVENT_READ, connection)

    def wait(self, connection: Connection, rest: memoryview) -> None:
        if connection.unsent is None:
            self.selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        connection.unsent = rest

    def end(self, connection: Connection) -> None:
        self.selector.unregister(connection.sock)
        connection.sock.close()


def listen(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(2048)
    sock.setblocking(False)
    return sock


def main() -> None:
    parser = argparse.ArgumentParser(prog="floor.py", description="Answers every request with fixed bytes.")
    parser.add_argument("port", type=int)
    parser.add_argument("--answer", type=Path, help="a file with the complete response (default: a short greeting)")
    parser.add_argument("--request-length", action="store_true", help="requests may come in several pieces")
    parser.add_argument("--close", action="store_true", help="close the connection after each response")
    parser.add_argument("--workers", type=int, default=1, help="threads; processes with the GIL")
    options = parser.parse_args()
    answer = options.answer.read_bytes() if options.answer else HELLO
    floors = [
        Floor(listen(options.port), answer, measured=options.request_length, closing=options.close)
        for _ in range(options.workers)
    ]
    gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    for floor in floors[1:]:
        if not gil:
            threading.Thread(target=floor.run, daemon=True).start()
        elif os.fork() == 0:
            floor.run()
    floors[0].run()


if __name__ == "__main__":
    main()
