"""WebSocket back-pressure: applications and clients that do not read, floods of frames."""

import itertools

from pounce.errors import ClientDisconnected
from pounce.net.byte_stream import HIGH_WATER
from tests.support.harness import Rig
from tests.support.websockets import Recorder, Slow, Socket, disconnect, echo, fill, frame, handshake


def test_the_socket_is_not_read_while_the_application_does_not_receive():
    app = Slow()
    rig = Rig(app, ws_max_queue=4, ws_ping_interval=0)
    socket = Socket(rig)
    sent = fill(rig, socket, frame(0x82, b"x" * 1000))
    assert sent < 1 << 21  # what the kernel takes
    (connection,) = rig.worker.connections
    assert len(connection._queue) == 4
    app.taking = sent // 1006
    rig.wait(5)
    assert len(app.received) == sent // 1006
    assert {len(message["bytes"]) for message in app.received} == {1000}


def test_large_messages_are_held_back_by_their_size():
    app = Slow()
    rig = Rig(app, ws_max_queue=1000, ws_ping_interval=0)
    socket = Socket(rig)
    data = frame(0x82, b"x" * 60000)
    for _ in range(100):
        try:
            socket.client.sock.sendall(data)
        except BlockingIOError:
            break
        rig.turn()
    (connection,) = rig.worker.connections
    assert connection._queued < (1 << 20) + 60001


def test_timeout_write_ends_a_websocket_whose_client_does_not_read():
    state = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            for number in itertools.count():
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
                state.append(number)
        except OSError as error:
            state.append(error)
            state.append(await receive())

    rig = Rig(app, timeout_write=30, ws_ping_interval=0)
    client = rig.connect()
    client.send(handshake())
    rig.wait(1)
    count = len(state)
    assert count < 100
    rig.wait(20)
    assert len(state) == count
    rig.wait(12)
    assert isinstance(state[-2], ClientDisconnected)
    assert state[-1] == disconnect(1006)
    assert not rig.worker.connections
    assert not rig.worker.exchanges


def test_a_flood_of_pings_by_a_client_that_does_not_read_gets_at_most_one_pong():
    app = Recorder()
    rig = Rig(app, timeout_write=30, ws_ping_interval=0)
    client = rig.connect()
    client.send(handshake())
    client.read()
    data = frame(0x89, b"p" * 125) * 300
    pushed = 0
    while pushed < 40 << 20:
        try:
            pushed += client.sock.send(data[pushed % len(data) :])
        except BlockingIOError:
            rig.turn()
    (connection,) = rig.worker.connections
    assert connection.stream.buffered < 2 * HIGH_WATER
    assert len(connection.stream._buffer or ()) < 100  # and that in few pieces
    rig.wait(31)
    assert not rig.worker.connections
    assert app.received == [disconnect(1006)]


def test_a_flood_of_small_frames_leaves_turns_to_other_connections():
    rig = Rig(echo)
    flood, other = Socket(rig), Socket(rig)
    flood.client.sock.sendall(frame(0x8A) * 10000)
    other.client.sock.sendall(frame(0x81, b"me"))
    rig.turn(2)
    assert other.client.sock.recv(100) == b"\x81\x02me"
    rig.turn(200)
    assert flood.ask("done") == ["done"]
