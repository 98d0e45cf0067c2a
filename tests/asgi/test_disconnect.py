"""A client that leaves: what the application hears of it, by whichever contract, and what the log says."""

import socket

import pytest

import pounce
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.requirements import library
from tests.support.server import Running

FRAMEWORKS = {"fast": "fastapi", "layered": "fastapi", "lite": "litestar", "quartz": "quart", "django": "django"}


def leave(server, kind):
    """Is a client of /kind until something has come."""
    with socket.create_connection(server.address, 30) as sock:
        sock.sendall(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % kind)
        seen = b""
        while b"data: hi" not in seen:
            seen += sock.recv(65536)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_frameworks_stream_ends_when_its_client_leaves(name):
    library(FRAMEWORKS[name])
    starlette = name in ("fast", "layered")
    with Running("--factory", f"departing:{name}", "--port", "0", "--log-level", "debug") as server:
        leave(server, b"idle")
        server.wait_for("idle is closed")
        if starlette:
            server.wait_for("idle has its background task")
        leave(server, b"busy")
        if starlette:  # which leaves closing a generator that did not wait to the collector
            server.wait_for("busy has its background task")
        server.stop()
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log
        assert "Cancelled" not in server.log


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("request_", [GET, HANDSHAKE], ids=["http", "websocket"])
def test_an_application_that_receives_for_ever_after_http_disconnect_holds_up_nobody(request_):
    """The application asks again and again, without looking."""
    received = []

    async def app(scope, receive, send):
        if scope["path"] == "/other":
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            return
        while len(received) < 1000:
            message = await receive()
            received.append(message["type"])
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})

    rig = Rig(app)
    client = rig.connect()
    client.send(request_)
    client.close()
    assert received.count("http.disconnect") + received.count("websocket.disconnect") == 1
    assert rig.connect().ask(GET.replace(b"/ ", b"/other ", 1)).startswith(b"HTTP/1.1 204 ")
    assert len(rig.worker.exchanges) == 1
    for exchange in rig.worker.exchanges:  # as a shutdown does
        exchange.cancel()
    rig.turn()
    assert not rig.worker.exchanges


def test_http_disconnect_after_the_response_comes_once():
    received = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        while len(received) < 1000:
            received.append((await receive())["type"])

    client = Rig(app).connect()
    client.send(GET)
    assert received == ["http.request", "http.disconnect"] or received == ["http.disconnect"]


def test_http_disconnect_reaches_every_task_that_waits_in_receive():
    """Two tasks of one application: a framework's and its user's own."""
    heard = []

    async def app(scope, receive, send):
        await receive()
        one, two = receive(), receive()
        one.send(None)
        two.send(None)
        apps.append((one, two))
        heard.append((await receive())["type"])

    apps = []
    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    client.close()
    for coroutine in apps[0]:
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        heard.append(stop.value.value["type"])
    assert heard == ["http.disconnect"] * 3


SPINS = {
    "parts": [{"type": "http.response.body", "body": b"", "more_body": True}],
    "parts that are wrong": [{"type": "http.response.body", "body": "text", "more_body": True}],
    "nonsense": [{"type": "nonsense"}],
    "what has no type": [{}],
}


@pytest.mark.parametrize("client_stays", [True, False], ids=["stays", "left"])
@pytest.mark.parametrize("name", SPINS)
def test_an_application_that_sends_for_ever_after_the_disconnect_holds_up_nobody(name, client_stays):

    async def app(scope, receive, send):
        if scope["path"] == "/other":
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.start", "status": 200})
        if not client_stays:
            await pounce.sleep(1)
        for _ in range(100_000):  # as good as for ever: more than a turn may take
            for message in SPINS[name]:
                try:
                    await send(message)
                except Exception:
                    continue

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    if not client_stays:
        client.close()
        rig.wait(1)
    assert rig.worker.exchanges, "the application has run to its end in one piece"
    assert rig.connect().ask(GET.replace(b"/ ", b"/other ", 1)).startswith(b"HTTP/1.1 204 ")


def test_an_application_that_sends_for_ever_after_its_response_holds_up_nobody(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        for _ in range(100_000):
            await send({"type": "http.response.body"})

    rig = Rig(app)
    rig.connect().send(GET)
    assert rig.worker.exchanges
    assert len(caplog.records) == 1


def test_a_websocket_application_that_sends_for_ever_holds_up_nobody():
    """Its client takes everything at once: here the kernel takes it."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(100_000):
            await send({"type": "websocket.send", "text": ""})

    rig = Rig(app)
    client = rig.connect()
    client.send(HANDSHAKE)
    assert rig.worker.exchanges


def test_messages_out_of_order_after_the_disconnect_are_ignored(caplog):
    """As the SSE endpoint of the MCP SDK does, which answers a second time when its stream is over."""
    caplog.set_level("DEBUG")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        for _ in range(2):
            await send({"type": "http.response.start", "status": 200})

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    client.sock.shutdown(1)  # SHUT_WR: the server cannot know yet that the client does not read either
    rig.turn()
    assert not rig.worker.exchanges
    (record,) = (record for record in caplog.records if "after the disconnect" in record.message)
    assert record.levelname == "DEBUG"
    assert "'http.response.start' after the disconnect of GET /" in record.message
    assert "ERROR" not in {record.levelname for record in caplog.records}


def test_messages_of_a_websocket_after_the_disconnect_are_ignored(caplog):
    caplog.set_level("DEBUG")

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        assert (await receive())["type"] == "websocket.disconnect"
        for kind in ("send", "close", "accept"):
            await send({"type": f"websocket.{kind}", "text": "x"})

    rig = Rig(app)
    rig.connect().send(HANDSHAKE)
    rig.turn()
    assert not rig.worker.exchanges
    assert [record.levelname for record in caplog.records if "after the disconnect" in record.message] == ["DEBUG"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


class Framework(Exception):
    """What a framework raises in place of ours."""


def wrapped(error):
    raise Framework from error


def in_context(error):
    try:
        raise error
    except OSError:
        raise Framework  # noqa: B904


def grouped(error):
    raise BaseExceptionGroup("of tasks", [error, ExceptionGroup("of more", [error])])


@pytest.mark.parametrize("way", [wrapped, in_context, grouped])
@pytest.mark.parametrize("request_", [GET, HANDSHAKE], ids=["http", "websocket"])
def test_a_frameworks_exception_for_the_disconnect_is_not_logged(way, request_, caplog):
    caplog.set_level("DEBUG")

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            message = {"type": "websocket.send", "text": "x"}
        else:
            await send({"type": "http.response.start", "status": 200})
            message = {"type": "http.response.body", "body": b"x", "more_body": True}
        try:
            while True:
                await send(message)
                await pounce.sleep(0.1)
        except OSError as error:
            way(error)

    rig = Rig(app)
    client = rig.connect()
    client.send(request_)
    client.close()
    rig.wait(1)
    assert not rig.worker.exchanges
    left = [record for record in caplog.records if "has disconnected" in record.message]
    assert [record.levelname for record in left] == ["DEBUG"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_error_of_the_application_beside_the_disconnect_is_logged(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await pounce.sleep(0.1)
        except OSError as error:
            raise ExceptionGroup("of tasks", [error, ZeroDivisionError("my mistake")]) from None

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    client.close()
    rig.wait(1)
    assert "my mistake" in caplog.text
