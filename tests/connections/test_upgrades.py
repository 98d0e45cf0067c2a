"""Requests for a protocol that is not spoken here: answered as if they did not ask, with a line in the log."""

import pytest

from tests.support.answers import content_of, status_of
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.websockets import handshake


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": message["body"] or b"none"})


def asking(*lines, body=b""):
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join(["POST / HTTP/1.1", "Host: a", *lines, *length, "", ""]).encode() + body


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize(
    ("request_", "options", "warned"),
    [
        (asking(*H2C), {}, True),
        (asking(*H2C, body=b"some"), {}, True),
        (asking("Connection: keep-alive, Upgrade", "Upgrade: TLS/1.2"), {}, True),
        (handshake(), {"ws": "none"}, True),
        (asking("Connection: Upgrade"), {}, False),
        (asking("Connection: close", "Upgrade: h2c"), {}, False),
        (asking("Upgrade: websocket"), {"ws": "none"}, False),
        (asking(*H2C).replace(b"HTTP/1.1", b"HTTP/1.0"), {}, False),
    ],
)
def test_upgrade_to_an_unknown_protocol_is_answered_and_logged(request_, options, warned, caplog):
    answer = Rig(echo, **options).connect().ask(request_)
    assert status_of(answer) == 200
    assert content_of(answer) == (b"some" if request_.endswith(b"some") else b"none")
    assert [record.message for record in caplog.records] == ["Unsupported upgrade request."] * warned


def test_upgrade_that_is_ignored_keeps_the_connection():
    client = Rig(echo).connect()
    for _ in range(2):
        assert content_of(client.ask(asking(*H2C, body=b"one"))) == b"one"
        assert content_of(client.ask(asking(body=b"two"))) == b"two"


def test_upgrade_among_pipelined_requests_is_served_once():
    answer = Rig(echo).connect().ask(asking(*H2C) + asking(*H2C, body=b"some") + asking())
    assert answer.count(b"HTTP/1.1 200 ") == 3


# Found by reading the code.
def test_426_names_the_websocket_version():
    answer = Rig(hello).connect().ask(handshake(Sec_WebSocket_Version="12")).lower()
    assert status_of(answer) == 426
    for line in (b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-version: 13"):
        assert b"\r\n" + line + b"\r\n" in answer


# Found by reading the code.
@pytest.mark.parametrize("pieces", [1, 2])
def test_400_to_a_websocket_handshake_with_content(pieces):
    client = Rig(hello).connect()
    head = handshake("Content-Length: 1")
    for piece in [head + b"x"] if pieces == 1 else [head, b"x"]:
        client.send(piece)
    assert status_of(client.read()) == 400
