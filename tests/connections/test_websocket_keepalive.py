"""Pings of the server: ws_ping_interval and ws_ping_timeout."""

import pytest
from wsproto import events

from pounce.connections.context import LINGER_TIMEOUT
from tests.support.harness import Rig
from tests.support.websockets import Recorder, Slow, Socket, disconnect, frame, texts


def test_ws_ping_interval_sends_pings_and_a_pong_keeps_the_connection():
    app = Recorder()
    rig = Rig(app, ws_ping_interval=20, ws_ping_timeout=10)
    socket = Socket(rig)
    for _ in range(3):
        rig.wait(21)
        (ping,) = socket.read()
        assert ping[0] == "ping"
        socket.say(events.Pong(ping[1]))
    assert not socket.closed
    assert app.received == []


@pytest.mark.parametrize("pong", [None, b"", b"unasked"])
def test_ws_ping_timeout_closes_1011(pong):
    app = Recorder()
    rig = Rig(app, ws_ping_interval=20, ws_ping_timeout=10)
    socket = Socket(rig)
    rig.wait(21)
    if pong is not None:
        socket.say(events.Pong(pong))
    rig.wait(8)
    assert app.received == []
    rig.wait(2)
    assert app.received == [disconnect(1011, "keepalive ping timeout")]
    assert socket.read()[1:] == [(1011, "keepalive ping timeout")]
    rig.wait(LINGER_TIMEOUT + 1)
    assert socket.closed
    assert not rig.worker.connections


def test_ws_ping_timeout_ends_a_client_that_stops_within_a_frame():
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.raw(frame(0x82, b"x" * 50, length=100))
    rig.wait(20 + 20 + LINGER_TIMEOUT + 1)
    assert app.received == [disconnect(1011, "keepalive ping timeout")]
    assert not rig.worker.connections


def test_ws_ping_timeout_spares_a_client_that_is_sending_a_long_frame():
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.raw(frame(0x82, length=60000))
    for _ in range(50):
        rig.wait(2)
        socket.raw(b"x" * 1000)
    assert app.received == []
    socket.raw(b"x" * 10000)
    assert texts(app) == [b"x" * 60000]


def test_ws_ping_interval_sends_no_ping_to_a_client_that_is_held_up():
    app = Slow()
    rig = Rig(app, ws_max_queue=2)
    socket = Socket(rig)
    socket.say("a", "b", "c", "d")
    rig.wait(200)
    assert socket.read() == []
    assert not socket.closed
    app.taking = 4
    rig.wait(1)
    assert texts(app) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("off", [0, None])
def test_ws_ping_interval_can_be_off(off):
    rig = Rig(Recorder(), ws_ping_interval=off)
    socket = Socket(rig)
    rig.wait(10_000)
    assert socket.read() == []
    rig = Rig(Recorder(), ws_ping_interval=20, ws_ping_timeout=off)
    socket = Socket(rig)
    rig.wait(101)
    assert len(socket.read()) == 5
    assert not socket.closed
