"""`--timeout-websocket-drain`: how long WebSockets stay open while their worker drains."""

import pytest

import pounce
from pounce.connections.websocket import CLOSE_TIMEOUT
from pounce.worker.worker import WorkerState
from tests.support.answers import status_of
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.websockets import Recorder, Socket, disconnect, echo, handshake


@pytest.mark.parametrize("order", ["stop", "retire"])
def test_websockets_go_on_for_the_window_and_are_closed_1012_at_its_end(order):
    rig = Rig(echo, timeout_websocket_drain=5)
    sockets = [Socket(rig) for _ in range(3)]
    getattr(rig.worker, order)()
    rig.wait(4.9)
    assert [socket.ask("a") for socket in sockets] == [["a"]] * 3
    rig.wait(0.2)
    assert [socket.read() for socket in sockets] == [[(1012, "")]] * 3
    for socket in sockets:
        socket.answer_close()
        socket.client.close()
    rig.wait(1)
    assert rig.worker.state is WorkerState.ENDED


def test_a_worker_ends_when_its_last_websocket_is_closed_within_the_window():
    rig = Rig(echo, timeout_websocket_drain=20)
    socket = Socket(rig)
    rig.worker.stop()
    rig.wait(1)
    socket.answer_close()
    assert socket.read() == [(1000, "")]
    socket.client.close()
    rig.wait(1)
    assert rig.worker.state is WorkerState.ENDED
    assert not len(rig.worker.context.websockets.window)


def stop(worker):
    worker.stop()


def retire(worker):
    worker.retire()


@pytest.mark.parametrize("drain", [stop, retire])
def test_new_websockets_are_refused_with_503_and_close_where_there_is_a_window(drain):
    rig = Rig(echo, timeout_websocket_drain=5)
    client = rig.connect()
    client.sock.sendall(handshake())  # the loop has not turned since
    drain(rig.worker)
    answer = client.read()
    assert status_of(answer) == 503
    assert b"connection: close" in answer
    assert client.closed


@pytest.mark.parametrize("drain", [stop, retire])
def test_new_websockets_get_101_and_1012_where_there_is_no_window(drain):
    """Found by the scenarios `reloads` and `drain`: a client that had been told to connect again failed with 503."""
    rig = Rig(echo)
    client = rig.connect()
    client.sock.sendall(handshake())
    drain(rig.worker)
    rig.wait(0.1)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02\x03\xf4")


def test_a_handshake_that_is_accepted_meanwhile_has_the_window():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await echo(scope, receive, send)

    rig = Rig(app, timeout_websocket_drain=5)
    client = rig.connect()
    client.send(handshake())
    rig.worker.stop()
    rig.wait(1.1)
    assert client.read().startswith(b"HTTP/1.1 101 ")
    rig.wait(4)
    assert client.read() == b""
    rig.wait(1)
    assert client.read() == b"\x88\x02\x03\xf4"


def test_stop_after_retire_does_not_begin_the_window_again():
    rig = Rig(echo, timeout_websocket_drain=5)
    socket = Socket(rig)
    rig.worker.retire()
    rig.wait(4)
    rig.worker.stop()
    rig.wait(1.1)
    assert socket.read() == [(1012, "")]


def test_cancel_ends_the_window_with_1012():
    app = Recorder()
    rig = Rig(app, timeout_websocket_drain=20)
    socket = Socket(rig)
    rig.worker.stop()
    rig.wait(10)
    rig.worker.cancel()
    rig.turn()
    assert socket.read() == [(1012, "")]
    rig.wait(CLOSE_TIMEOUT + 1)
    assert rig.worker.state is WorkerState.ENDED


def test_an_application_that_hears_of_the_drain_says_goodbye_itself():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await scope["extensions"]["pounce.draining"].wait()
        await send({"type": "websocket.send", "text": "moving"})
        await send({"type": "websocket.close", "code": 4000, "reason": "come back"})

    rig = Rig(app, timeout_websocket_drain=5)
    socket = Socket(rig)
    rig.worker.stop()
    assert socket.read() == ["moving", (4000, "come back")]


def test_a_websocket_whose_close_is_under_way_is_left_alone_by_the_window():
    app = Recorder()
    rig = Rig(app, timeout_websocket_drain=2)
    socket = Socket(rig)
    rig.worker.stop()
    socket.answer_close()
    assert socket.read() == [(1000, "")]
    assert app.received == [disconnect(1000)]
    rig.wait(3)
    assert socket.read() == []


def test_http_requests_are_answered_with_close_within_the_window():
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

    rig = Rig(app, timeout_websocket_drain=5)
    socket, client = Socket(rig), rig.connect()
    client.ask(GET)
    rig.worker.stop()
    assert b"connection: close" in client.ask(GET)
    assert socket.ask("a") == ["a"]


def test_timeout_websocket_drain_longer_than_the_graceful_timeout_is_an_error():
    with pytest.raises(pounce.ConfigError, match="timeout_websocket_drain must not be longer than"):
        pounce.Config(echo, timeout_websocket_drain=31)
    assert pounce.Config(echo, timeout_websocket_drain=31, timeout_graceful_shutdown=None).timeout_websocket_drain == 31
