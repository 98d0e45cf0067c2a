"""PROXY headers between real threads: they come in pieces while workers are replaced again and again, and no connection
is lost or gets the client of another. The interpreter changes threads as often as it can.

POUNCE_HAND_OVERS is how often.
"""

import collections
import os
import random
import socket
import sys
import threading

import pytest

from tests.support import proxy_headers as encode
from tests.support.chain import Chain

pytestmark = pytest.mark.waits  # threads meet by chance, and chance takes time

HAND_OVERS = int(os.environ.get("POUNCE_HAND_OVERS", "60"))
CLIENTS = 6
SERVER = ("198.51.100.1", 443)


@pytest.fixture(autouse=True)
def switching_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Application:
    """Answers with its client, and counts its requests."""

    def __init__(self):
        self.seen = collections.Counter()
        self.lock = threading.Lock()

    async def __call__(self, scope, receive, send):
        host, port = scope["client"]
        assert scope["extensions"]["proxy"]["client"] == (host, port)
        with self.lock:
            self.seen[host, port] += 1
        content = f"{host} {port}".encode().ljust(40)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"40")]})
        await send({"type": "http.response.body", "body": content})


class Client(threading.Thread):
    """Connects again and again, each time as another client of a proxy, and asks a few times."""

    def __init__(self, address, number, enough):
        super().__init__()
        self.address, self.enough, self.number = address, enough, number
        self.random = random.Random(number)
        self.asked = collections.Counter()
        self.failure = None

    def run(self):
        try:
            count = 0
            while not self.enough.is_set():
                count += 1
                self.connect((f"10.{self.number}.{count >> 8 & 255}.{count & 255}", count & 0xFFFF))
        except BaseException as error:
            self.failure = error

    def connect(self, client):
        header = self.random.choice((
            encode.v1(client, SERVER), encode.v2(client, SERVER),
            encode.v2(client, SERVER, [(encode.NOOP, bytes(3000))]),
        ))  # fmt: skip
        with socket.create_connection(self.address, timeout=30) as sock, sock.makefile("rb") as file:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = header
            for _ in range(self.random.randrange(5)):
                if data is header:
                    data += b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
                else:
                    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
                for _ in range(self.random.choice((0, 0, 1, 2, 5))):
                    cut = self.random.randrange(1, 70)
                    sock.sendall(data[:cut])
                    data = data[cut:]
                sock.sendall(data)
                self.asked[client] += 1
                line = file.readline()
                assert line.startswith(b"HTTP/1.1 200 "), (client, line)
                fields = dict(iter(lambda: tuple(file.readline().rstrip(b"\r\n").lower().split(b": ", 1)), (b"",)))
                host, port = file.read(40).split()
                assert (host.decode(), int(port)) == client
                assert b"connection" not in fields


@pytest.mark.parametrize("hurry", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.timeout(330)
def test_no_connection_is_lost_in_its_header_while_workers_are_replaced(balanced, hurry):
    app = Application()
    enough = threading.Event()
    with Chain(app, balanced=balanced, proxy_protocol=True) as chain:
        clients = [Client(chain.address, number, enough) for number in range(CLIENTS)]
        chain.replace_among(clients, app.seen, HAND_OVERS, hurry=hurry)
        chain.until_only_one_is_left()
    assert [client.failure for client in clients] == [None] * CLIENTS
    assert app.seen == sum((client.asked for client in clients), collections.Counter())
