"""What the log says of an application's failure begins with uvicorn's words and names the request."""

import pytest

from tests.support.applications import body, start
from tests.support.harness import Rig
from tests.support.websockets import handshake

LONG = "/" + 3000 * "x"


def asking(path, method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


async def raises(scope, receive, send):
    raise ZeroDivisionError("my mistake")


async def returns_something(scope, receive, send):
    await send(start())
    await send(body(b""))
    return "something"


async def returns_early(scope, receive, send):
    if scope["path"] == "/begun":
        await send(start())


async def says_more(scope, receive, send):
    await send(start())
    await send(body(b""))
    await send(body(b"more"))


@pytest.mark.parametrize(
    ("app", "request_", "words"),
    [
        (raises, asking("/shop?secret=1"), "Exception in ASGI application: GET /shop\n"),
        (raises, asking("/shop", "PURGE"), "Exception in ASGI application: PURGE /shop\n"),
        (raises, asking("/%0A%1b[31m%s"), "Exception in ASGI application: GET /%0A%1b[31m%s\n"),
        (raises, asking(LONG), f"Exception in ASGI application: GET {LONG[:200]}...\n"),
        (raises, handshake(path="/chat"), "Exception in ASGI application: WebSocket /chat\n"),
        (returns_something, asking("/a"), "ASGI callable should return None, but returned 'something': GET /a"),
        (returns_early, asking("/a"), "ASGI callable returned without starting response: GET /a"),
        (returns_early, asking("/begun"), "ASGI callable returned without completing response: GET /begun"),
        (returns_early, handshake(path="/a"), "ASGI callable returned without completing handshake: WebSocket /a"),
        (says_more, asking("/a"), "ASGI app sent 'http.response.body' after the response was complete; it is ignored: "
                                  "GET /a"),
    ],
)  # fmt: skip
def test_failure_log_names_the_request(app, request_, words, caplog):
    rig = Rig(app)
    rig.connect().send(request_)
    rig.turn()
    (record,) = caplog.records
    assert record.message == words


def test_failure_log_names_the_websocket(caplog):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    rig = Rig(app)
    rig.connect().send(handshake(path="/chat"))
    rig.turn()
    assert "Exception in ASGI application: WebSocket /chat\n" in [record.message for record in caplog.records]
