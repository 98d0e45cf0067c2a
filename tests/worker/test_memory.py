"""What is over is freed at once, without the garbage collector."""

import gc
import socket
from collections import Counter

import pytest

import pounce
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.requests import CLOSE, GET


def living_objects():
    """How many objects there are of each of the server's types that the collector knows."""
    types = map(type, gc.get_objects())
    return Counter(kind.__name__ for kind in types if str(kind.__module__).startswith("pounce."))  # not always a string


# Found by reading the code.
@pytest.mark.parametrize("ends", ["client", "server", "half", "reset"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_connection_that_is_over_is_freed_without_the_collector(waits, ends):
    async def app(scope, receive, send):
        if waits:
            await pounce.sleep(1)
        await hello(scope, receive, send)

    def one():
        client = rig.connect()
        client.send(CLOSE if ends == "server" else GET)
        if ends == "half":
            client.sock.shutdown(socket.SHUT_WR)
        if ends == "reset":
            client.close()
        rig.wait(2)
        client.close()
        rig.wait(10)

    gc.freeze()  # what other tests have left is not looked at
    rig = Rig(app)
    one()
    gc.collect()
    gc.disable()
    try:
        before = living_objects()
        for _ in range(5):
            one()
        assert living_objects() == before
    finally:
        gc.enable()
        gc.unfreeze()
