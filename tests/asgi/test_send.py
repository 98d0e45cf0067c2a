"""`send`: how a response leaves, back-pressure, what is raised when the client is gone, default fields."""

import enum

import pytest

import pounce
from tests.support.answers import content_of, status_of
from tests.support.applications import answering, body, hello, start
from tests.support.harness import Rig
from tests.support.requests import GET


class CountingSocket:
    """A socket that notes what is handed to the kernel, call by call."""

    def __init__(self, sock):
        self.sock = sock
        self.calls = []

    def send(self, data):
        self.calls.append(bytes(data))
        return self.sock.send(data)

    def sendmsg(self, parts):
        self.calls.append(b"".join(parts))
        return self.sock.sendmsg(parts)

    def __getattr__(self, name):
        return getattr(self.sock, name)


@pytest.mark.parametrize("size", [5, 100_000])
def test_head_and_first_part_leave_in_one_system_call(size):
    rig = Rig(answering(start(), body(b"x" * size)))
    client = rig.connect()
    (connection,) = rig.worker.connections
    sock = connection.stream.sock = CountingSocket(connection.stream.sock)
    client.ask(GET)
    assert len(content_of(sock.calls[0])) > 0
    if size == 5:
        assert len(sock.calls) == 1


def test_streamed_parts_arrive_at_once_one_by_one():
    async def app(scope, receive, send):
        await send(start())
        for number in range(3):
            await send(body(b"%d" % number, more=True))
            await pounce.sleep(1)
        await send(body())

    rig = Rig(app)
    client = rig.connect()
    assert client.ask(GET).endswith(b"\r\n\r\n1\r\n0\r\n")
    for number in (1, 2):
        rig.wait(1)
        assert client.read() == b"1\r\n%d\r\n" % number
    rig.wait(1)
    assert client.read() == b"0\r\n\r\n"


def test_send_waits_while_the_client_does_not_read():
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send(start())
        for _ in range(100):
            await send(body(b"x" * 65536, more=True))
            sent += 1
        await send(body())

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    before = sent
    assert before < 50
    assert client.read().count(b"x") == 100 * 65536
    assert sent == 100


def test_send_after_the_client_has_gone_raises_oserror_and_is_not_logged(caplog):
    seen = []

    async def app(scope, receive, send):
        await send(start())
        try:
            while True:
                await send(body(b"x" * 1000, more=True))
                await pounce.sleep(0.1)
        except OSError as error:
            seen.append(type(error))
            raise

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    client.close()
    rig.wait(1)
    assert seen == [pounce.ClientDisconnected]
    assert not rig.worker.exchanges
    assert caplog.records == []


def test_send_that_waits_raises_oserror_when_the_client_goes():
    seen = []

    async def app(scope, receive, send):
        await send(start())
        try:
            while True:
                await send(body(b"x" * 65536, more=True))
        except OSError:
            seen.append("gone")

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    assert seen == []
    client.close()
    assert seen == ["gone"]


def test_body_may_be_any_bytes_like_object():
    client = Rig(answering(start(), body(bytearray(b"ab"), True), body(memoryview(b"cd"), True), body(b""))).connect()
    assert content_of(client.ask(GET)) == b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"


def test_default_fields_follow_headers_server_header_and_date_header():
    answer = Rig(hello, headers=[("X-Own", "y")]).connect().ask(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nserver: pounce\r\nx-own: y\r\ndate: ")
    answer = Rig(hello, server_header=False, date_header=False).connect().ask(GET)
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def test_date_field_follows_the_clock_and_is_made_once_a_second(monkeypatch):
    wall = 784111777.25  # RFC 9110's own example, and a quarter
    monkeypatch.setattr("pounce.connections.default_fields.time.time", lambda: wall)
    rig = Rig(hello)
    client = rig.connect()
    assert b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in client.ask(GET)
    wall += 0.7
    rig.skip(0.7)
    assert b"08:49:37 GMT" in client.ask(GET)
    wall += 0.1
    rig.skip(0.1)
    assert b"08:49:38 GMT" in client.ask(GET)


def test_early_hint_103_goes_before_the_response():
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]}
    app = answering(hint, start(), body(b"x"))
    answer = Rig(app).connect().ask(GET)
    assert answer.startswith(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\nHTTP/1.1 200 OK"
    )
    assert b"103" not in Rig(app).connect().ask(b"GET / HTTP/1.0\r\n\r\n")


def test_trailers_follow_the_content():
    app = answering(
        start(trailers=True),
        body(b"abc", more=True),
        body(b"def"),
        {"type": "http.response.trailers", "headers": [(b"digest", b"x")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"other", b"y")]},
    )
    client = Rig(app).connect()
    request = GET.replace(b"\r\n\r\n", b"\r\nTE: Trailers\r\n\r\n")
    answer = client.ask(request)
    assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\ndigest: x\r\nother: y\r\n\r\n")
    assert client.ask(request) == answer


# Found by reading the code.
def test_205_has_no_content():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 205, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (scope["path"] == "/x")})

    rig = Rig(app)
    client = rig.connect()
    answer = client.ask(GET)
    assert status_of(answer) == 205
    assert b"\r\ncontent-length: 0\r\n" in answer
    assert content_of(answer) == b""
    assert client.ask(GET.replace(b"/ ", b"/x ", 1)) == answer


# Found by reading the code.
def test_status_may_be_an_enumeration_of_int():
    class Status(int, enum.Enum):
        FINE = 200

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": Status.FINE, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert Rig(app).connect().ask(GET).startswith(b"HTTP/1.1 200 OK\r\n")
