"""When the head of a response leaves, what may come before and after it, and content that a status does not have."""

import pytest

import pounce
from tests.support.answers import content_of, status_of
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.requirements import library
from tests.support.server import Running, get

TE = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"


START = {"type": "http.response.start", "status": 200}


HINT = {"type": "http.response.early_hint", "links": [b"</a.css>"]}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def saying(*messages):
    """An application that says these messages; a number is a wait of so many seconds."""

    async def app(scope, receive, send):
        for message in messages:
            if isinstance(message, int):
                await pounce.sleep(message)
            else:
                await send(message)

    return app


@pytest.mark.parametrize("before", [(), (1,)], ids=["in the first step", "in a later step"])
def test_head_leaves_when_the_application_waits(before):
    rig = Rig(saying(*before, START, 5, body(b"late")))
    client = rig.connect()
    client.send(GET)
    rig.wait(1.1)
    head = client.read()
    assert status_of(head) == 200
    assert b"transfer-encoding: chunked\r\n" in head
    rig.wait(5)
    assert client.read() == b"4\r\nlate\r\n0\r\n\r\n"
    assert not client.closed


def test_content_length_of_the_application_is_kept():
    start = {**START, "headers": [(b"content-length", b"4")]}
    rig = Rig(saying(start, 1, body(b"late")))
    client = rig.connect()
    head = client.ask(GET)
    assert head.endswith(b"content-length: 4\r\n\r\n")
    rig.wait(1.1)
    assert client.read() == b"late"


def test_head_to_http_1_0_without_length_ends_with_the_connection():
    rig = Rig(saying(START, 1, body(b"late")))
    client = rig.connect()
    assert b"connection: close\r\n" in client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    rig.wait(1.1)
    assert client.read() == b"late"
    assert client.closed


@pytest.mark.parametrize("before", [(), (1,)], ids=["in the first step", "in a later step"])
def test_head_that_is_held_back_becomes_500_when_the_application_fails(before):
    async def app(scope, receive, send):
        for seconds in before:
            await pounce.sleep(seconds)
        await send(START)
        raise ZeroDivisionError

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    rig.wait(1.1)
    assert status_of(client.read()) == 500


def test_head_that_is_held_back_becomes_500_when_a_framework_fails():
    library("fastapi")
    with Running("--factory", "heads:fast", "--port", "0") as server:
        assert get(server.address, "/")[0] == 500


def test_failure_after_the_head_truncates_the_response():
    async def app(scope, receive, send):
        await send(START)
        await pounce.sleep(1)
        raise ZeroDivisionError

    rig = Rig(app)
    client = rig.connect()
    assert status_of(client.ask(GET)) == 200
    rig.wait(1.1)
    assert client.read() == b""
    assert client.closed


@pytest.mark.parametrize("length", [True, False])
def test_pathsend_may_come_after_the_head(length, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    start = {**START, "headers": [(b"content-length", b"7")] if length else []}
    rig = Rig(saying(start, 1, {"type": "http.response.pathsend", "path": str(path)}))
    client = rig.connect()
    client.ask(GET)
    rig.wait(1.1)
    assert client.read() == (b"content" if length else b"7\r\ncontent\r\n0\r\n\r\n")
    assert not client.closed


def test_websocket_http_response_401_leaves_when_the_application_waits():
    start = {"type": "websocket.http.response.start", "status": 401}
    rig = Rig(saying(start, 1, {"type": "websocket.http.response.body", "body": b"no"}))
    client = rig.connect()
    head = client.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert status_of(head) == 401
    rig.wait(1.1)
    assert client.read() == b"2\r\nno\r\n0\r\n\r\n"


def test_early_hint_103_comes_before_the_head_or_not_at_all():
    rig = Rig(saying(START, HINT, 1, HINT, body(b"x", more=True), HINT, body()))
    client = rig.connect()
    hinted = client.ask(GET)
    assert hinted.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n")
    rig.wait(1.1)
    assert client.read() == b"1\r\nx\r\n0\r\n\r\n"


@pytest.mark.parametrize("more", [False, True])
def test_trailers_are_sent_to_clients_that_accept_them(more, caplog):
    parts = [body(b"x", more=True), body()] if more else [body(b"x")]
    trailers = {"type": "http.response.trailers", "headers": [(b"digest", b"y")]}
    client = Rig(saying({**START, "trailers": True}, *parts, trailers)).connect()
    assert client.ask(TE).endswith(b"\r\n\r\n1\r\nx\r\n0\r\ndigest: y\r\n\r\n")
    assert client.ask(GET).endswith(b"1\r\nx\r\n0\r\n\r\n" if more else b"content-length: 1\r\n\r\nx")
    assert client.ask(TE).endswith(b"digest: y\r\n\r\n")
    assert not caplog.records


@pytest.mark.parametrize("status", [204, 205, 304])
def test_204_205_304_leave_content_out_and_log_it_once(status, caplog):
    start = {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"4")]}
    client = Rig(saying(start, body(b"null"))).connect()
    for _ in range(2):
        answer = client.ask(GET.replace(b"/ ", b"/thing ", 1))
        assert (status_of(answer), content_of(answer)) == (status, b"")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "GET /thing: a response with status 204, 205 or 304 has no content" in caplog.text


def test_blanks_around_a_field_value_are_removed():
    fields = [(b"content-security-policy", b" default-src 'self'; \t"), (bytearray(b"x"), bytearray(b"y"))]
    answer = Rig(saying({**START, "headers": fields}, body())).connect().ask(GET)
    assert b"\r\ncontent-security-policy: default-src 'self';\r\n" in answer
    assert b"\r\nx: y\r\n" in answer


def test_pathsend_of_a_file_that_has_grown_sends_its_content_length(tmp_path, caplog):
    path = tmp_path / "log"
    path.write_bytes(b"12345, and more")
    start = {**START, "headers": [(b"content-length", b"5")]}
    client = Rig(saying(start, {"type": "http.response.pathsend", "path": str(path)})).connect()
    assert content_of(client.ask(GET)) == b"12345"
    rig = Rig(saying(start, 1, body(b"123", more=True), body(b"45, and more")))
    client = rig.connect()
    client.send(GET)
    rig.wait(1.1)
    assert content_of(client.read()) == b"12345"
    assert not client.closed
    assert "more content than its Content-Length says; cut off" in caplog.text


def test_a_framework_finds_websockets_loaded_before_the_first_handshake():
    with Running("--factory", "loaded:framework", "--port", "0") as server:
        assert get(server.address) == (200, b"True")
    with Running("loaded:plain", "--port", "0") as server:  # which may never need them
        assert get(server.address) == (200, b"False")
