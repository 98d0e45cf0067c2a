"""The WebSocket handshake: the scope, accept, refusals and their statuses, subprotocols, and what the log says."""

import logging
import subprocess
import sys
from unittest.mock import ANY

import pytest
from wsproto import events

import pounce
from pounce.errors import ClientDisconnected
from pounce.net.byte_stream import HIGH_WATER
from pounce.worker.control import Report
from tests.support.harness import Rig
from tests.support.websockets import Recorder, Socket, disconnect, echo, frame, handshake


def test_websocket_scope():
    app = Recorder()
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b", path="/x%20y?q=1"))
    assert socket.status == 101
    headers = dict(app.scope.pop("headers"))
    assert headers[b"sec-websocket-protocol"] == b"a, b"
    assert app.scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("192.0.2.2", 80),
        "client": ("192.0.2.1", 4711),
        "root_path": "",
        "path": "/x y",
        "raw_path": b"/x%20y",
        "query_string": b"q=1",
        "subprotocols": ["a", "b"],
        "state": {},
        "extensions": {"websocket.http.response": {}, "pounce.draining": ANY},
    }


def test_accept_is_answered_101():
    app = Recorder({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"X-Y", b"z"), (b"Upgrade", b"no")]})
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b"))
    assert socket.status == 101
    assert socket.field(b"sec-websocket-accept") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert (socket.field(b"upgrade"), socket.field(b"connection")) == (b"websocket", b"Upgrade")
    assert socket.field(b"sec-websocket-protocol") == b"b"
    assert (socket.field(b"x-y"), socket.field(b"server")) == (b"z", b"pounce")
    assert socket.field(b"sec-websocket-extensions") is None
    assert socket.field(b"content-length") is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake(method="POST"), 400),
        (handshake(Sec_WebSocket_Version=None), 426),
        (handshake(Sec_WebSocket_Version="12"), 426),
        (handshake(Sec_WebSocket_Key=None), 400),
        (handshake(Sec_WebSocket_Key="c2hvcnQ="), 400),
        (handshake(Content_Length="1"), 400),
    ],
)
def test_invalid_handshake_is_refused_400_or_426_with_the_reason(request_, status, caplog):
    caplog.set_level(logging.INFO)
    app = Recorder()
    rig = Rig(app, access_log=True)
    client = rig.connect()
    answer = client.ask(request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert app.scope is None
    assert len(answer.partition(b"\r\n\r\n")[2]) > 10
    assert (b"sec-websocket-version: 13" in answer) == (status == 426)
    if b"Content-Length: 1" not in request_:
        assert client.ask(handshake()).startswith(b"HTTP/1.1 101 ")  # the connection is still good for another try


def test_upgrade_is_ignored_in_http_1_0_for_other_protocols_and_with_ws_none():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})

    for request, options in [
        (handshake(version="1.0"), {}),
        (handshake(Upgrade="h2c"), {}),
        (handshake(), {"ws": "none"}),
    ]:
        answer = Rig(app, **options).connect().ask(request)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"plain")


def test_frames_may_come_right_behind_the_handshake():
    socket = Socket(Rig(echo), early=[events.TextMessage("early"), events.Ping(b"p")])
    assert socket.status == 101
    assert socket.read() == [("pong", b"p"), "early"]


def test_an_application_may_take_its_time_to_accept():
    async def app(scope, receive, send):
        await pounce.sleep(3600)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake() + frame(0x81, b"a") + frame(0x82, b"b" * 100))
    assert client.read() == b""
    rig.wait(3601)
    head, _, rest = client.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == b"\x81\x01a\x82\x64" + b"b" * 100


def test_frames_before_accept_are_buffered_within_a_bound():
    async def app(scope, receive, send):
        await pounce.sleep(10)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    data = frame(0x82, b"x" * 1000) * 1000
    sent = 0
    for _ in range(50):
        try:
            sent += client.sock.send(data[sent:])
        except BlockingIOError:
            break
        rig.turn()
    (connection,) = rig.worker.connections
    assert connection.reader.pending <= 2 * HIGH_WATER


def test_a_client_that_leaves_before_accept():
    app = Recorder({"type": "none"})

    async def waiting(scope, receive, send):
        app.received = [await receive(), await receive()]
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})

    rig = Rig(waiting)
    client = rig.connect()
    client.send(handshake())
    client.close()
    rig.turn()
    assert app.received == [{"type": "websocket.connect"}, disconnect(1006)]
    assert not rig.worker.connections
    assert not rig.worker.exchanges


@pytest.mark.parametrize("chosen", [{"subprotocol": "c"}, {"headers": [(b"Sec-WebSocket-Protocol", b"c")]}])
def test_accept_with_a_subprotocol_that_was_not_offered_is_500(chosen, caplog):
    app = Recorder({"type": "websocket.accept", **chosen})
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b"))
    assert socket.status == 500
    assert "has not offered the subprotocol 'c'" in caplog.text


@pytest.mark.parametrize("chosen", [{}, {"subprotocol": "b"}])
def test_accept_may_choose_the_subprotocol_by_a_field(chosen):
    app = Recorder({"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Protocol", b"b")], **chosen})
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b"))
    assert socket.status == 101
    assert socket.head.lower().count(b"sec-websocket-protocol: b") == 1


def test_close_before_accept_is_403():
    rig = Rig(Recorder({"type": "websocket.close"}))
    socket = Socket(rig)
    assert socket.status == 403
    assert not socket.closed
    assert rig.worker.exchanges == set()


def test_websocket_http_response_extension_sends_the_applications_response():
    app = Recorder(
        {"type": "websocket.http.response.start", "status": 451, "headers": [(b"x-why", b"law")]},
        {"type": "websocket.http.response.body", "body": b"not ", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"here"},
    )
    rig = Rig(app)
    client = rig.connect()
    answer = client.ask(handshake())
    assert answer.startswith(b"HTTP/1.1 451 ")
    assert b"x-why: law" in answer
    assert answer.endswith(b"4\r\nnot \r\n4\r\nhere\r\n0\r\n\r\n")
    assert app.received == [disconnect(1006)]
    assert client.ask(handshake()).startswith(b"HTTP/1.1 451 ")


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "websocket.send", "text": "a"}],
        [{"type": "http.response.start", "status": 200}],
        [{"type": "websocket.http.response.start", "status": 101}],
        [{"type": "websocket.http.response.start", "status": 200}, {"type": "websocket.accept"}],
        [{"type": "websocket.close"}, {"type": "websocket.accept"}],
        [{"type": "websocket.accept", "headers": [(b"x", b"a\r\nb")]}],
    ],
)
def test_messages_that_cannot_answer_a_handshake_are_500(messages, caplog):
    app = Recorder(*messages)
    socket = Socket(Rig(app))
    assert isinstance(app.error, RuntimeError)
    assert caplog.text.count("Exception in ASGI application") == 1
    assert socket.status == (403 if messages[0]["type"] == "websocket.close" else 500)


@pytest.mark.parametrize("late", [False, True])
def test_returning_or_raising_without_an_answer_is_500(late, caplog):
    async def returns(scope, receive, send):
        if late:
            await pounce.sleep(1)

    async def raises(scope, receive, send):
        await returns(scope, receive, send)
        raise ValueError("oh")

    for app, words in [(returns, "returned without completing handshake"), (raises, "Exception in ASGI application")]:
        rig = Rig(app)
        client = rig.connect()
        client.send(handshake())
        rig.wait(2)
        assert client.read().startswith(b"HTTP/1.1 500 ")
        assert caplog.text.count(words) == 1
        assert not rig.worker.exchanges


@pytest.mark.parametrize("access_log", [True, False])
def test_handshake_log_has_uvicorns_lines(access_log, caplog):
    """With the access log and without: they are not of it."""
    caplog.set_level(logging.INFO)
    denial = [
        {"type": "websocket.http.response.start", "status": 451},
        {"type": "websocket.http.response.body", "body": b"no"},
    ]
    for app in (Recorder(), Recorder({"type": "websocket.close"}), Recorder(*denial)):
        Socket(Rig(app, access_log=access_log), handshake(path="/a%20b?c=d"))
    Socket(Rig(Recorder(), access_log=access_log), handshake(path="/a", Sec_WebSocket_Key="short"))
    found = [(r.name, r.getMessage(), len(r.args)) for r in caplog.records if "WebSocket" in r.getMessage()]
    line = '192.0.2.1:4711 - "WebSocket /a'
    assert found == [
        ("pounce.error", line + '%20b?c=d" [accepted]', 2),
        ("pounce.error", line + '%20b?c=d" 403', 3),
        ("pounce.error", line + '%20b?c=d" 451', 3),
        ("pounce.error", line + '" 400', 3),
    ]


def test_timeout_request_does_not_apply_to_websockets():
    rig = Rig(echo, timeout_request=1, ws_ping_interval=0)
    socket = Socket(rig)
    rig.wait(5)
    assert socket.ask("still here") == ["still here"]


def test_ws_none_logs_no_websocket_line(caplog):
    caplog.set_level(logging.INFO)
    Rig(Recorder(), access_log=False, ws="none").connect().send(handshake())
    assert "192.0.2.1" not in caplog.text


def test_limit_concurrency_counts_open_websockets_and_answers_503(caplog):
    rig = Rig(echo, limit_concurrency=2)
    sockets = [Socket(rig) for _ in range(3)]
    assert [socket.status for socket in sockets] == [101, 101, 503]
    assert "Exceeded concurrency limit." in caplog.text
    sockets[2].client.close()
    sockets[0].answer_close()
    sockets[0].client.close()
    assert Socket(rig).status == 101


def test_limit_max_requests_counts_handshakes():
    rig = Rig(Recorder(), limit_max_requests=2)
    sockets = [Socket(rig)]
    assert rig.reports == [Report.READY]
    sockets.append(Socket(rig))
    assert rig.reports == [Report.READY, Report.WANTS_SUCCESSOR]
    rig.worker.retire()  # as it is told
    assert [socket.read() for socket in sockets] == [[(1012, "")]] * 2


def test_wsproto_is_loaded_at_the_first_handshake():

    script = (
        "import sys; from tests.support.harness import Rig\n"
        "from tests.support.applications import hello; from tests.support.requests import GET\n"
        "Rig(hello).connect().ask(GET); assert not [m for m in sys.modules if 'wsproto' in m or 'websocket' in m]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Found by comparing the code with an earlier one.
def test_beside_asyncio_the_first_handshake_loads_nothing():
    import subprocess
    import sys

    script = (
        "import asyncio, sys; from tests.support.harness import Rig\n"
        "from tests.support.websockets import Socket, echo\n"
        "rig = Rig(echo); loaded = set(sys.modules); assert Socket(rig).status == 101\n"
        "assert not [m for m in set(sys.modules) - loaded if 'pounce' in m or 'wsproto' in m]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_limit_queue_makes_a_handshake_wait_for_its_turn_or_answers_503():
    rig = Rig(echo, limit_concurrency=1, limit_queue=1, queue_timeout=5)
    first, second = Socket(rig), rig.connect()
    second.send(handshake() + frame(0x81, b"patient"))
    assert second.read() == b""
    third = Socket(rig)
    assert (first.status, third.status) == (101, 503)
    assert third.field(b"retry-after")
    first.answer_close()
    assert second.read().endswith(b"\r\n\r\n\x81\x07patient")
