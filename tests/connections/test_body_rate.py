"""How slow the content of a request may come: timeout_request_body and limit_request_body_rate."""

import pytest

import pounce
from pounce.connections.context import LINGER_TIMEOUT
from pounce.connections.http1 import MAX_PIPELINED_PER_TURN
from tests.support.answers import status_of
from tests.support.harness import Rig
from tests.support.requests import GET, post


async def count(scope, receive, send):
    """Answers with the size of the content."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


# Found by reading the code.
def test_timeout_request_body_begins_when_100_has_been_sent_and_answers_408():
    async def app(scope, receive, send):
        await pounce.sleep(25)
        await count(scope, receive, send)

    rig = Rig(app)
    patient, silent = rig.connect(), rig.connect()
    for client in (patient, silent):
        client.send(post(5, b"", "Expect: 100-continue"))
        rig.wait(1)
    rig.wait(24)
    assert patient.read() == silent.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.wait(8)
    assert patient.ask(b"12345").endswith(b"5")
    assert silent.read() == b""
    rig.wait(3)
    assert status_of(silent.read()) == 408


# Found by reading the code.
def test_timeout_request_body_holds_behind_as_many_pipelined_requests_as_are_answered_in_a_turn():
    rig = Rig(count)
    client = rig.connect()
    client.send(GET * (MAX_PIPELINED_PER_TURN - 1) + post(5000))
    rig.wait(12)
    assert client.read().count(b"HTTP/1.1 408 ") == 1


# Found by reading the code.
def test_timeout_request_body_asks_for_no_rate_within_it():
    rig = Rig(count)
    client = rig.connect()
    client.send(post(5000))
    rig.wait(8.5)
    client.send(bytes(1000))
    for _ in range(4):
        rig.wait(2)
        client.send(bytes(1000))
    assert client.read().endswith(b"5000")


# Found by reading the code.
@pytest.mark.parametrize(
    ("sends", "lives"),
    [
        (lambda second: 0, 10),
        (lambda second: 1, 11),  # what has come in the grace pays for less than a second
        (lambda second: 239, 300),  # a little too slow for long enough is too slow
        (lambda second: 10_000 if second < 15 else 0, 24),  # what has come pays for ten seconds more, and for no longer
    ],
)
def test_limit_request_body_rate_answers_408_after_what_has_come_is_used_up(sends, lives):
    rig = Rig(count)
    client = rig.connect()
    client.send(post(10_000_000))
    second = 0
    while not client.closed and second < 3000:
        client.sock.send(bytes(sends(second)))
        rig.wait(1)
        second += 1
        if answer := client.read():
            assert status_of(answer) == 408
    assert lives <= second <= (lives + 2 if lives < 100 else 3000)


# Found by reading the code.
@pytest.mark.parametrize("grace", [0.5, 1, 2])
def test_timeout_request_body_that_is_short_refuses_no_steady_client(grace):
    rig = Rig(count, timeout_request_body=grace)
    client = rig.connect()
    client.send(post(120_000))
    for _ in range(300):
        client.send(bytes(400))
        rig.wait(0.3)
    assert client.read().endswith(b"120000")


# Found by reading the code.
def test_timeout_request_body_runs_for_a_client_that_never_gets_100():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()  # too late for a 100

    rig = Rig(app)
    client = rig.connect()
    client.send(post(5, b"", "Expect: 100-continue"))
    rig.wait(12)
    client.read()
    assert client.closed
    rig.wait(LINGER_TIMEOUT)
    assert not rig.worker.connections


# Found by reading the code.
def test_limit_request_body_rate_spares_a_client_at_exactly_that_rate():
    rig = Rig(count)
    client = rig.connect()
    client.send(post(120_000))
    for _ in range(500):
        client.send(bytes(240))
        rig.wait(1)
    assert client.read().endswith(b"120000")
