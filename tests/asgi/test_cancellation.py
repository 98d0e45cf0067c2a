"""Cancelled requests: cancel_on_disconnect, and waits after a cancellation."""

import socket

import pytest

import pounce
from pounce.kernel.task import Cancelled
from tests.support.applications import big
from tests.support.harness import Rig
from tests.support.requests import GET


# Found by reading the code.
def test_cancel_on_disconnect_cancels_an_application_whose_client_goes_in_its_first_step():
    ended = []

    async def app(scope, receive, send):
        client.sock.close()
        with pytest.raises(OSError, match="disconnected"):
            await big(scope, receive, send)
            await send({"type": "http.response.body", "body": b""})
        try:
            await pounce.sleep(1000)
        finally:
            ended.append(rig.clock.now)

    rig = Rig(app, cancel_on_disconnect=True)
    client = rig.connect()
    client.sock.sendall(GET)
    rig.wait(1)
    assert ended
    assert not rig.worker.exchanges


# Found by reading the code.
def test_cancel_on_disconnect_cancels_pipelined_requests_that_begin_after_the_eof():
    cancelled = []

    async def app(scope, receive, send):
        try:
            await pounce.sleep(1000)
        except Cancelled:
            cancelled.append(scope["path"])
            raise

    rig = Rig(app, cancel_on_disconnect=True)
    client = rig.connect()
    client.sock.sendall(GET.replace(b"/ ", b"/1 ", 1) + GET.replace(b"/ ", b"/2 ", 1))
    client.sock.shutdown(socket.SHUT_WR)
    rig.wait(1)
    assert cancelled == ["/1", "/2"]
    assert not rig.worker.exchanges


# Found by reading the code.
def test_a_sleep_after_a_cancellation_lasts_its_whole_time():
    times = []

    async def app(scope, receive, send):
        await pounce.sleep(1)
        (exchange,) = rig.worker.exchanges
        exchange.cancel()  # as the connection does when it is lost in `send`
        try:
            await pounce.sleep(5)
        except Cancelled:
            times.append(rig.clock.now)
            await pounce.sleep(60)
            times.append(rig.clock.now)

    rig = Rig(app)
    rig.connect().send(GET)
    rig.wait(100)
    assert times[1] - times[0] >= 60
