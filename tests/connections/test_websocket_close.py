"""How WebSockets close: by the client, by the application, by neither, and when the server ends."""

import pytest
from wsproto import events

import pounce
from pounce.connections.context import LINGER_TIMEOUT
from pounce.connections.websocket import ANSWER_GRACE, CLOSE_TIMEOUT
from pounce.errors import ClientDisconnected
from pounce.protocols.events import ApplicationError
from pounce.worker.worker import WorkerState
from tests.support.harness import Rig
from tests.support.websockets import Recorder, Socket, disconnect, echo, frame, handshake


# Found by reading the code.
@pytest.mark.parametrize("reason", [b"bye", 5, ["bye"]])
def test_close_with_a_reason_that_is_no_string_raises_and_closes_nothing(reason):
    seen = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(ApplicationError, match="the reason for closing a WebSocket is a string"):
            await send({"type": "websocket.close", "reason": reason})
        await send({"type": "websocket.close", "reason": "bye"})
        seen.append(await receive())

    client = Rig(app).connect()
    assert client.ask(handshake(path="/bad")).endswith(b"\x88\x05\x03\xe8bye")
    client.close()
    assert seen == [{"type": "websocket.disconnect", "code": 1000, "reason": "bye"}]


# Found by comparing the code with an earlier one.
@pytest.mark.parametrize("by", ["application", "client", "server"])
def test_cancel_on_disconnect_leaves_websockets_to_what_they_receive(by):
    ended = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if by == "application":
            await send({"type": "websocket.close"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await pounce.sleep(1)
        ended.append(by)

    rig = Rig(app, cancel_on_disconnect=True)
    socket = Socket(rig)
    if by == "client":
        socket.client.close()
    elif by == "server":
        rig.worker.stop()
    rig.wait(2)
    assert ended == [by]


def test_close_by_the_client_is_answered_and_received():
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.say("last", events.CloseConnection(3001, "bye"))
    assert socket.read() == [(3001, "bye")]
    assert app.received == [{"type": "websocket.receive", "text": "last"}, disconnect(3001, "bye")]
    assert socket.closed
    socket.client.close()
    assert not rig.worker.connections
    assert not rig.worker.exchanges


def test_close_without_a_code_is_1005_and_answered_without_one():
    app = Recorder()
    socket = Socket(Rig(app))
    socket.raw(frame(0x88))
    assert app.received == [disconnect(1005)]
    socket.read()
    assert socket.data == b"\x88\x00"


@pytest.mark.parametrize("how", ["shutdown", "close", "reset"])
def test_a_connection_that_ends_without_close_is_1006(how):
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.say("a")
    if how == "shutdown":
        socket.client.sock.shutdown(1)
    else:
        socket.client.sock.close()
    rig.turn()
    assert app.received == [{"type": "websocket.receive", "text": "a"}, disconnect(1006)]
    assert not rig.worker.exchanges


def test_close_by_the_application():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "a"})
        await send({"type": "websocket.send", "text": "b"})
        await send({"type": "websocket.close", "code": 3333, "reason": "ö" * 100})
        seen.append(await receive())
        with pytest.raises(RuntimeError, match="has been sent"):
            await send({"type": "websocket.send", "text": "late"})
        with pytest.raises(RuntimeError, match="has been sent"):
            await send({"type": "websocket.close"})

    seen = []
    rig = Rig(app)
    socket = Socket(rig)
    assert socket.read() == ["a", "b", (3333, "ö" * 61)]
    assert seen == [disconnect(3333, "ö" * 100)]
    assert not socket.closed  # it waits for the client's
    socket.answer_close()
    assert socket.closed
    socket.client.close()
    assert not rig.worker.connections


def test_messages_after_our_close_are_discarded_up_to_the_clients_close():
    rig = Rig(Recorder({"type": "websocket.accept"}, {"type": "websocket.close"}), ws_max_queue=2)
    socket = Socket(rig)
    assert socket.read() == [(1000, "")]
    socket.raw(frame(0x81, b"late") * 100 + frame(0x89, b"p") + frame(0x88, b"\x03\xe8"))
    assert socket.read() == []
    assert socket.closed


def test_a_client_that_does_not_answer_our_close_is_closed_after_a_while():
    rig = Rig(Recorder({"type": "websocket.accept"}, {"type": "websocket.close"}))
    socket = Socket(rig)
    rig.wait(CLOSE_TIMEOUT - 1)
    assert not socket.closed
    rig.wait(2)
    assert socket.closed
    rig.wait(LINGER_TIMEOUT)
    assert not rig.worker.connections


def test_returning_closes_1000_and_raising_closes_1011(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/raise":
            raise ValueError("oh")

    assert Socket(Rig(app)).read() == [(1000, "")]
    assert caplog.text == ""
    assert Socket(Rig(app), handshake(path="/raise")).read() == [(1011, "")]
    assert caplog.text.count("Exception in ASGI application") == 1


def test_send_to_a_client_that_has_closed_raises_and_is_not_logged(caplog):
    errors = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        for message in ({"type": "websocket.send", "text": "late"}, {"type": "websocket.close"}):
            try:
                await send(message)
            except OSError as error:
                errors.append(error)
        await send({"type": "websocket.send", "text": "late"})

    Socket(Rig(app)).answer_close()
    assert [type(error) for error in errors] == [ClientDisconnected, ClientDisconnected]
    assert caplog.text == ""


def test_an_application_that_does_not_receive_the_close_is_given_time():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await pounce.sleep(60)
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "too late"})
        ends.append(await receive())

    ends = []
    rig = Rig(app)
    for last in (frame(0x83), frame(0x88, b"\x03\xe9")):
        socket = Socket(rig)
        socket.raw(frame(0x81, b"a") + last)
        rig.wait(ANSWER_GRACE - 0.5)
        assert socket.read() == []
        rig.wait(1)
        assert socket.read()[0][0] == (1002 if last == frame(0x83) else 1001)
        assert socket.closed
    rig.wait(60)
    assert [end["code"] for end in ends] == [1002, 1001]


def test_an_application_that_never_receives_is_not_waited_for():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await pounce.sleep(60)

    socket = Socket(Rig(app))
    assert socket.ask(events.CloseConnection(1000)) == [(1000, "")]


def test_the_applications_close_goes_before_the_answer_to_the_clients():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "answer"})
        await send({"type": "websocket.close", "code": 4000, "reason": "mine"})

    socket = Socket(Rig(app))
    assert socket.ask("a", events.CloseConnection(1001)) == ["answer", (4000, "mine")]
    assert socket.closed


def test_stop_closes_all_websockets_1012_at_once():
    apps = [Recorder() for _ in range(3)]
    made = iter(apps)

    async def app(scope, receive, send):
        await next(made)(scope, receive, send)

    rig = Rig(app)
    sockets = [Socket(rig) for _ in apps]
    rig.worker.stop()
    rig.turn()
    assert [socket.read() for socket in sockets] == [[(1012, "")]] * 3
    assert [app.received for app in apps] == [[disconnect(1012)]] * 3
    assert rig.worker.state is WorkerState.DRAINING
    for socket in sockets:
        socket.answer_close()
        socket.client.close()
    rig.wait(1)
    assert rig.worker.state is WorkerState.ENDED
    assert rig.worker.exit_code == 0


def test_stop_ends_though_clients_do_not_answer_1012():
    rig = Rig(Recorder())
    Socket(rig)
    rig.worker.stop()
    rig.wait(CLOSE_TIMEOUT + LINGER_TIMEOUT + 1)
    assert rig.worker.state is WorkerState.ENDED


def test_cancel_ends_a_websocket_application_that_ignores_its_disconnect(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await pounce.sleep(1e6)

    rig = Rig(app)
    socket = Socket(rig, handshake(path="/stuck"))
    rig.worker.stop()
    rig.turn()
    assert socket.read() == [(1012, "")]
    socket.answer_close()
    rig.worker.cancel()
    rig.wait(2)
    assert rig.worker.state is WorkerState.ENDED
    assert "Cancelled: WebSocket /stuck in test_cancel_ends" in caplog.text


def test_accept_during_shutdown_is_followed_by_1012_at_once():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    rig.worker.stop()
    rig.wait(2)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02\x03\xf4")


def test_nothing_is_kept_of_websockets_that_are_over():
    rig = Rig(echo)
    for last in (frame(0x88), frame(0x83), b"", frame(0x81, b"x", length=10)):
        socket = Socket(rig)
        socket.raw(last)
        socket.client.close()
    rig.wait(60)
    assert not rig.worker.connections
    assert not rig.worker.exchanges
    shared = rig.worker.context.websockets
    assert [len(queue) for queue in (shared.ping, shared.pong, shared.close, shared.answer_deadline)] == [0] * 4
