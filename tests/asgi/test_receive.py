"""`receive`: content in parts, 100 (Continue), the disconnect, and back-pressure on the client."""

import pounce
from pounce.net.byte_stream import HIGH_WATER
from tests.support.answers import content_of, status_of
from tests.support.applications import Recorder, answering, body, echo, hello, start
from tests.support.harness import Rig
from tests.support.requests import GET, post


def test_receive_gives_content_in_parts_as_it_comes_then_http_disconnect():
    app = Recorder()
    client = Rig(app).connect()
    client.send(post(10, b"abc"))
    client.send(b"def")
    client.send(b"ghij")
    assert app.received == [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "body": b"def", "more_body": True},
        {"type": "http.request", "body": b"ghij", "more_body": False},
    ]
    client.close()
    assert app.received[3:] == [{"type": "http.disconnect"}]


def test_receive_without_content_gives_one_empty_part():
    app = Recorder()
    client = Rig(app).connect()
    client.send(GET)
    assert app.received == [{"type": "http.request", "body": b"", "more_body": False}]


def test_receive_gives_http_disconnect_when_the_client_leaves_within_its_content():
    app = Recorder()
    client = Rig(app).connect()
    client.send(post(10, b"abc"))
    client.close()
    assert [message["type"] for message in app.received] == ["http.request", "http.disconnect"]


def test_receive_after_the_response_gives_only_http_disconnect():
    seen = []

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        seen.append(await receive())

    client = Rig(app).connect()
    client.ask(post(5, b"hello"))
    assert seen == [{"type": "http.disconnect"}]


def test_a_half_closed_client_still_gets_its_response():
    async def app(scope, receive, send):
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await hello(scope, receive, send)

    client = Rig(app).connect()
    client.send(GET)
    client.sock.shutdown(1)
    assert content_of(client.read()) == b"hello"
    assert client.closed


def test_content_the_application_does_not_receive_is_not_read_from_the_socket():
    app_waits = []

    async def app(scope, receive, send):
        app_waits.append(True)
        await pounce.sleep(1000)

    rig = Rig(app)
    client = rig.connect()
    client.send(post(100_000_000))
    sent = 0
    try:
        for _ in range(1000):
            sent += client.sock.send(b"x" * 65536)
            rig.turn(1)
    except BlockingIOError:
        pass
    assert app_waits
    assert sent < 2_000_000  # the kernel's buffers and one high-water mark
    (connection,) = rig.worker.connections
    assert connection._untaken <= 2 * HIGH_WATER


def test_an_application_that_receives_slowly_gets_all_of_a_large_content():
    total = []

    async def app(scope, receive, send):
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            await pounce.sleep(0.01)
            if not message["more_body"]:
                break
        total.append(size)
        await hello(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(post(3_000_000))
    left = 3_000_000
    while left:
        try:
            left -= client.sock.send(b"x" * min(left, 65536))
        except BlockingIOError:
            rig.wait(0.01)
    rig.wait(2)
    assert total == [3_000_000]
    assert content_of(client.read()) == b"hello"


def test_100_continue_is_sent_when_the_application_calls_receive():
    client = Rig(echo).connect()
    assert client.ask(post(5, b"", "Expect: 100-continue")) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert content_of(client.ask(b"hello")) == b"hello"
    assert not client.closed


def test_100_continue_is_sent_with_a_response_start_that_was_held_back():
    """Neither the start nor a 100 on the wire would leave each waiting for the other."""

    async def app(scope, receive, send):
        await send(start())
        await send(body((await receive())["body"]))

    client = Rig(app).connect()
    answer = client.ask(post(5, b"", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert client.ask(b"hello") == b"5\r\nhello\r\n0\r\n\r\n"


def test_no_100_is_sent_when_the_application_answers_403_without_receive():
    client = Rig(answering(start(403), body(b"no"))).connect()
    answer = client.ask(post(5, b"", "Expect: 100-continue"))
    assert status_of(answer) == 403
    assert b"connection: close" in answer
    assert client.closed


def test_no_100_is_sent_for_content_that_has_already_come():
    client = Rig(echo).connect()
    answer = client.ask(post(5, b"hello", "Expect: 100-continue"))
    assert status_of(answer) == 200


# Found by reading the code.
def test_content_in_tiny_pieces_costs_little_more_than_its_bytes():
    async def idle(scope, receive, send):
        await pounce.sleep(1e6)

    rig = Rig(idle)
    client = rig.connect()
    client.send(post(100_000))
    for _ in range(5000):
        client.sock.send(b"ab")
        rig.loop.turn(0)
    (exchange,) = rig.worker.exchanges
    assert sum(map(len, exchange._body)) == 10_000
    assert len(exchange._body) < 20
