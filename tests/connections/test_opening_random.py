"""Connections in their PROXY headers, and whatever may happen to them, in any order: nothing is left behind.

POUNCE_RANDOM_RUNS is how many orders are tried.
"""

import contextlib
import os
import random

import pytest

from pounce.worker.worker import WorkerState
from tests.support import proxy_headers as encode
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.websockets import handshake

RUNS = int(os.environ.get("POUNCE_RANDOM_RUNS", "100"))
OPTIONS = {"proxy_protocol": True, "proxy_protocol_allow_ips": "192.0.2.1"}
CLIENT, SERVER = ("203.0.113.9", 51234), ("198.51.100.1", 443)
V1 = encode.v1(CLIENT, SERVER)
HEADERS = (
    V1, encode.v2(CLIENT, SERVER), encode.v2(CLIENT, SERVER, [(encode.NOOP, bytes(3000))]), b"PROXY UNKNOWN\r\n",
    b"junk" + V1, V1[:-2] + b"x\r\n",
)  # fmt: skip
REQUESTS = (b"", GET, GET + GET, handshake(), GET + handshake())


class Story:
    """What happens to a worker, and to its heir where it has one."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.rigs = [Rig(hello, **OPTIONS, limit_concurrency=self.random.choice((None, 3)))]
        self.clients = {}  # what they have not sent yet

    def connect(self):
        if self.rigs[0].worker.state is WorkerState.SERVING:
            data = self.random.choice(HEADERS) + self.random.choice(REQUESTS)
            self.clients[self.rigs[0].connect()] = data

    def send(self):
        if self.clients:
            client = self.random.choice(list(self.clients))
            data, count = self.clients[client], self.random.choice((1, 3, 20, 10000))
            client.send(data[:count])
            self.clients[client] = data[count:]
            client.read()

    def send_no_more(self):
        if self.clients:
            self.random.choice(list(self.clients)).sock.shutdown(1)

    def leave(self):
        if self.clients:
            client = self.random.choice(list(self.clients))
            del self.clients[client]
            client.close()

    def wait(self):
        self.rigs[0].wait(self.random.choice((0.1, 0.6, 3, 9.9, 11)))

    def end(self):
        worker, how = self.rigs[0].worker, self.random.choice(("stop", "retire", "cancel", "heir", "heir"))
        if how != "heir":
            getattr(worker, how)()
        elif len(self.rigs) == 1:
            self.rigs.append(Rig(hello, **OPTIONS))
            worker.retire(self.rigs[1].worker, hurry=self.random.random() < 0.5)

    def tell(self):
        steps = [self.connect] * 6 + [self.send] * 12 + [self.send_no_more, self.leave, self.wait, self.wait, self.end]
        for _ in range(self.random.randrange(10, 60)):
            with contextlib.suppress(OSError):  # the server has closed
                self.random.choice(steps)()
            for rig in self.rigs:
                rig.turn()


@pytest.mark.parametrize("seed", range(RUNS))
def test_nothing_is_left_of_connections_in_their_header_whatever_happens_to_them(seed):
    story = Story(seed)
    story.tell()
    for client in story.clients:
        client.sock.close()
    for rig in story.rigs:
        rig.wait(60)
        assert not rig.worker.connections
        assert not [len(queue) for queue in rig.loop._queues if len(queue)]
