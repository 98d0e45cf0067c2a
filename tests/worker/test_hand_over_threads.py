"""The hand-over between real threads: clients that reuse their connections lose no request and have none answered twice
while workers are replaced again and again. The interpreter changes threads as often as it can.

POUNCE_HAND_OVERS is how often; 60 finds a lost wake-up, a bug that needs more luck wants thousands.
"""

import collections
import os
import random
import socket
import sys
import threading

import pytest

import pounce
from tests.support.chain import Chain

pytestmark = pytest.mark.waits  # threads meet by chance, and chance takes time

HAND_OVERS = int(os.environ.get("POUNCE_HAND_OVERS", "60"))
CLIENTS = 6
LARGE = bytes(range(256)) * 4096  # more than the kernel takes at once


@pytest.fixture(autouse=True)
def switching_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Application:
    """Counts how often each request has reached it."""

    def __init__(self):
        self.seen = collections.Counter()
        self.lock = threading.Lock()

    async def __call__(self, scope, receive, send):
        kind, number = scope["path"].split("/")[1:]
        with self.lock:
            self.seen[number] += 1
        content = b""
        more = True
        while more:
            message = await receive()
            content += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-number", number.encode())]})
        if kind == "stream":
            for _ in range(3):
                await send({"type": "http.response.body", "body": b"part", "more_body": True})
                await pounce.sleep(0.0005)
        elif kind == "slow":
            await pounce.sleep(0.001)
        await send({"type": "http.response.body", "body": LARGE if kind == "large" else content})


class Client(threading.Thread):
    """Asks on one connection for as long as that is kept."""

    def __init__(self, address, number, enough):
        super().__init__()
        self.address, self.enough = address, enough
        self.random = random.Random(number)
        self.names = (f"{number}-{count}" for count in range(1 << 30))
        self.asked = []
        self.connections = 0
        self.failure = None

    def run(self):
        try:
            while not self.enough.is_set():
                self.connections += 1
                with socket.create_connection(self.address, timeout=30) as sock, sock.makefile("rb") as file:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while not self.enough.is_set() and self.ask(sock, file):
                        pass
        except BaseException as error:
            self.failure = error

    def ask(self, sock, file):
        """Asks for one to three things at once. Does the connection go on?"""
        asked = []
        data = b""
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            kind = self.random.choice(("plain", "plain", "plain", "slow", "stream", "large", "post"))
            name = next(self.names)
            content = bytes(self.random.choice((1, 70_000))) if kind == "post" else b""
            method = "POST" if kind == "post" else "GET"
            head = f"{method} /{kind}/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
            data += head.encode() + content
            asked.append((name, kind, content))
        self.asked += [name for name, *_ in asked]
        for _ in range(self.random.choice((0, 0, 0, 1, 2, 3))):  # in pieces, now and then
            cut = self.random.randrange(1, 60)
            sock.sendall(data[:cut])
            data = data[cut:]
        sock.sendall(data)
        for index, (name, kind, content) in enumerate(asked):
            line = file.readline()
            assert line.startswith(b"HTTP/1.1 200 "), (name, line)
            fields = dict(iter(lambda: tuple(file.readline().rstrip(b"\r\n").lower().split(b": ", 1)), (b"",)))
            got = file.read(int(fields[b"content-length"])) if b"content-length" in fields else self.chunks(file)
            assert fields[b"x-number"].decode() == name
            assert got == {"large": LARGE, "stream": b"part" * 3 + content}.get(kind, content)
            if fields.get(b"connection") == b"close":
                assert index == len(asked) - 1, "requests behind a close"
                return False
        return True

    @staticmethod
    def chunks(file):
        content = b""
        while size := int(file.readline(), 16):
            content += file.read(size)
            file.readline()
        file.readline()
        return content


@pytest.mark.parametrize("hurry", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.timeout(330)
def test_no_request_is_lost_or_answered_twice_while_workers_are_replaced(balanced, hurry):
    app = Application()
    enough = threading.Event()
    with Chain(app, balanced=balanced) as chain:
        clients = [Client(chain.address, number, enough) for number in range(CLIENTS)]
        chain.replace_among(clients, app.seen, HAND_OVERS, hurry=hurry)
    assert [client.failure for client in clients] == [None] * CLIENTS
    assert app.seen == collections.Counter(name for client in clients for name in client.asked)
    assert sum(client.connections for client in clients) == CLIENTS  # all were kept
