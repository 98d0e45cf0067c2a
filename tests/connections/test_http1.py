"""One HTTP/1 connection and its requests, one after the other: pipelines, persistence, content nobody reads, errors."""

import pounce
from pounce.connections.http1 import MAX_PIPELINED_PER_TURN
from pounce.connections.http1_response import MAX_DISCARD
from tests.support.answers import content_of, status_of
from tests.support.applications import body, echo, hello, start
from tests.support.harness import Rig
from tests.support.requests import CLOSE, GET, post


def test_pipelined_requests_before_a_half_close_are_all_answered():
    client = Rig(hello).connect()
    client.sock.sendall(GET * 3)
    client.sock.shutdown(1)
    assert client.read().count(b"hello") == 3
    assert client.closed


def test_400_to_a_head_request_has_no_content():
    client = Rig(hello).connect()
    answer = client.ask(b"HEAD / HTTP/1.1\r\n\r\n")
    assert status_of(answer) == 400
    assert answer.endswith(b"\r\n\r\n")


def test_the_next_request_does_not_wait_for_an_application_that_runs_on_after_its_response():
    done = []

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await pounce.sleep(1)
        done.append(True)

    rig = Rig(app)
    client = rig.connect()
    assert content_of(client.ask(GET)) == b"hello"
    assert content_of(client.ask(GET)) == b"hello"  # the next request does not wait for it
    assert done == []
    rig.wait(1.1)
    assert done == [True, True]


def test_pipelined_requests_are_answered_in_order_when_a_later_one_is_quicker():
    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await pounce.sleep(1)
        await send(start())
        await send(body(scope["path"].encode()))

    rig = Rig(app)
    client = rig.connect()
    client.send(GET.replace(b"/ ", b"/slow ", 1) + GET.replace(b"/ ", b"/quick ", 1) + CLOSE)
    assert client.read() == b""
    rig.wait(1.1)
    answer = client.read()
    assert answer.index(b"/slow") < answer.index(b"/quick")
    assert answer.count(b"200 OK") == 3
    assert client.closed


def test_a_long_pipeline_leaves_turns_to_other_connections():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["client"])
        await hello(scope, receive, send)

    rig = Rig(app)
    greedy, modest = rig.connect(), rig.connect()
    greedy.sock.sendall(GET * MAX_PIPELINED_PER_TURN * 5)
    rig.turn(1)
    modest.sock.sendall(GET)
    rig.turn(1)
    assert len(seen) <= 3 * MAX_PIPELINED_PER_TURN + 1
    assert content_of(modest.read()) == b"hello"
    assert greedy.read().count(b"hello") == MAX_PIPELINED_PER_TURN * 5


def test_pipelined_requests_of_a_client_that_does_not_read_are_not_all_run():
    served = 0

    async def app(scope, receive, send):
        nonlocal served
        served += 1
        await send(start())
        await send(body(b"x" * 100_000))

    rig = Rig(app)
    client = rig.connect()
    client.sock.sendall(GET * 500)
    rig.turn(50)
    assert served < 50
    assert client.read().count(b"200 OK") == 500


def test_pipelined_requests_behind_a_running_one_are_buffered_within_a_bound():
    async def app(scope, receive, send):
        await pounce.sleep(1000)

    rig = Rig(app)
    client = rig.connect()
    sent = 0
    try:
        for _ in range(10_000):
            sent += client.sock.send(GET * 100)
            rig.turn(1)
    except BlockingIOError:
        pass
    assert sent < 2_000_000


def test_unread_content_is_discarded_and_the_connection_kept():
    client = Rig(hello).connect()
    assert content_of(client.ask(post(1000, b"x" * 400))) == b"hello"
    assert client.ask(b"x" * 600) == b""
    assert content_of(client.ask(GET)) == b"hello"


def test_unread_content_above_the_bound_closes_the_connection():
    client = Rig(hello).connect()
    answer = client.ask(post(MAX_DISCARD + 1, b"x"))
    assert content_of(answer) == b"hello"
    assert b"connection: close" in answer
    assert client.closed


def test_unread_chunked_content_above_the_bound_closes_the_connection():
    client = Rig(hello).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert content_of(client.read()) == b"hello"
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    for _ in range(4):
        if client.closed:
            return
        client.send(chunk)
    assert client.closed


def test_invalid_chunk_before_the_response_is_answered_400(caplog):
    client = Rig(echo).connect()
    answer = client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
    assert status_of(answer) == 400
    assert client.closed
    assert "Invalid HTTP request received" in caplog.text


def test_invalid_chunk_during_the_response_truncates_it():
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"x", more=True))
        while (await receive())["type"] != "http.disconnect":
            pass

    client = Rig(app).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    answer = client.ask(b"xyz\r\n")
    assert b"400" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert client.closed


def test_responses_before_an_invalid_request_arrive_whole_then_400():
    client = Rig(hello).connect()
    answer = client.ask(GET + GET + b"BAD\r\n\r\n" + GET)
    assert answer.count(b"200 OK") == 2
    assert answer.count(b"400 Bad Request") == 1
    assert b"connection: close" in answer
    assert b"date:" in answer.rpartition(b"400 Bad Request")[2]
    assert client.closed


def test_no_request_is_served_after_connection_close():
    client = Rig(hello).connect()
    assert client.ask(CLOSE + GET).count(b"200 OK") == 1
    assert client.closed


def test_upgrade_to_an_unknown_protocol_is_ignored():
    client = Rig(hello).connect()
    answer = client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET)
    assert answer.count(b"200 OK") == 2


def test_a_request_that_comes_byte_by_byte_is_answered():
    client = Rig(echo).connect()
    for byte in post(5, b"hello"):
        client.send(bytes([byte]))
    assert content_of(client.read()) == b"hello"
