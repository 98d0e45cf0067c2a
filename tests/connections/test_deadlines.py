"""Deadlines of an HTTP/1 connection: timeout_keep_alive, timeout_request_head, timeout_request_body and its rate."""

import pytest

import pounce
from tests.support.answers import content_of, status_of
from tests.support.applications import echo, hello
from tests.support.harness import Rig
from tests.support.requests import GET, post


def test_timeout_keep_alive_is_not_extended_by_empty_lines():
    rig = Rig(hello)
    client = rig.connect()
    client.ask(GET + b"\r\n")
    for _ in range(2):
        rig.wait(4)
        client.send(b"\r\n")
    rig.wait(3)
    assert client.closed
    assert client.read() == b""  # nothing was asked, so nothing is answered


def test_timeout_keep_alive_closes_an_idle_connection():
    rig = Rig(hello, timeout_keep_alive=5)
    client = rig.connect()
    client.ask(GET)
    rig.wait(4.9)
    assert not client.closed
    client.ask(GET)
    rig.wait(4.9)
    assert not client.closed
    rig.wait(0.2)
    assert client.closed


def test_timeout_request_head_is_absolute_and_answers_408():
    rig = Rig(hello, timeout_request_head=10)
    client = rig.connect()
    for _ in range(9):
        client.send(b"G" if _ == 0 else b"E")
        rig.wait(1)
    assert not client.closed
    rig.wait(1.1)
    assert status_of(client.read()) == 408
    assert client.closed


def test_timeout_request_head_closes_a_silent_client_without_a_response():
    rig = Rig(hello, timeout_request_head=10)
    client = rig.connect()
    rig.wait(10.1)
    assert client.read() == b""
    assert client.closed


def test_timeout_request_head_begins_anew_for_the_next_head_and_answers_408():
    rig = Rig(hello, timeout_request_head=10, timeout_keep_alive=5)
    client = rig.connect()
    rig.wait(8)
    client.ask(GET)
    client.send(b"GET / HT")
    rig.wait(9)
    assert not client.closed
    rig.wait(1.1)
    assert status_of(client.read()) == 408


def test_limit_request_body_rate_answers_408_to_a_client_below_it():
    rig = Rig(echo, timeout_request_body=10, limit_request_body_rate=240)
    slow, steady = rig.connect(), rig.connect()
    slow.send(post(100_000))
    steady.send(post(100_000))
    answer = b""
    for _ in range(30):
        rig.wait(1)
        steady.send(b"x" * 300)
        answer += slow.read()
        if answer:
            break
        slow.send(b"x" * 100)
    assert status_of(answer) == 408
    assert slow.closed
    assert not steady.closed


def test_timeout_request_body_stops_while_the_application_does_not_receive():
    async def app(scope, receive, send):
        await pounce.sleep(60)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(post(500_000))
    left = 500_000
    while left:
        try:
            left -= client.sock.send(b"x" * min(left, 65536))
        except BlockingIOError:
            rig.turn(1)
            if rig.clock.now < 1061:
                rig.wait(10)
    assert len(content_of(client.read())) == 500_000


def test_timeout_keep_alive_and_timeout_request_head_and_body_can_be_off():
    rig = Rig(hello, timeout_keep_alive=None, timeout_request_head="off", timeout_request_body=None)
    client = rig.connect()
    rig.wait(0.1)
    rig.skip(1e6)
    assert content_of(client.ask(GET)) == b"hello"
    rig.skip(1e6)
    assert not client.closed


@pytest.mark.parametrize("draining", [False, True])
def test_timeout_keep_alive_spares_a_request_that_came_while_the_loop_was_busy(draining):
    # Found by `races`: a request that arrived between the loop's look at the sockets and its look at the deadlines
    # was answered with a reset, because its connection had been idle for long enough. Under load that is a long time.
    rig = Rig(hello)
    client = rig.connect()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert client.ask(request).endswith(b"hello")
    if draining:
        rig.worker.stop()
    select = rig.selector.select

    def busy(timeout=None):
        ready = select(timeout)
        if rig.clock.now > began + 0.1:
            client.sock.send(request)  # now that nothing was readable
            rig.selector.select = select
        return ready

    began = rig.clock.now
    rig.selector.select = busy
    rig.skip(6.0)
    assert client.read().endswith(b"hello")


def test_timeout_keep_alive_closes_an_idle_connection_after_a_request():
    rig = Rig(hello)
    client = rig.connect()
    assert client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"hello")
    rig.wait(5.1)
    assert client.closed
