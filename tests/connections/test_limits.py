"""Bounds of a request, to the byte, and limit_concurrency where there is no queue."""

import pytest

import pounce
from tests.support.answers import status_of
from tests.support.applications import echo, hello
from tests.support.harness import Rig
from tests.support.requests import GET, post


def test_limit_concurrency_answers_503_to_connections_above_it():
    rig = Rig(hello, limit_concurrency=2)
    first, second, third = rig.connect(), rig.connect(), rig.connect()
    answer = third.ask(GET)
    assert status_of(answer) == 503
    assert third.closed
    assert status_of(second.ask(GET)) == 200
    assert status_of(first.ask(GET)) == 200


def test_limit_concurrency_answers_503_to_running_requests_above_it(caplog):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await pounce.sleep(10)  # as a background task does

    rig = Rig(app, limit_concurrency=3)
    client = rig.connect()
    assert [status_of(client.ask(GET)) for _ in range(4)] == [200, 200, 200, 503]
    assert "Exceeded concurrency limit." in caplog.text


@pytest.mark.parametrize(
    ("name", "bound", "asked", "status"),
    [
        (
            "limit_request_head",
            300,
            lambda size: b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * (size - 28)),
            431,
        ),
        (
            "limit_request_fields",
            3,
            lambda size: b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (b"X: y\r\n" * (size - 1)),
            431,
        ),
        ("limit_request_target", 20, lambda size: b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * (size - 1)), 414),
        ("limit_request_body", 3, lambda size: post(size, b"z" * size), 413),
    ],
)
def test_each_limit_of_a_request_holds_to_the_byte_431_414_413(name, bound, asked, status):
    rig = Rig(echo, **{name: bound})
    assert status_of(rig.connect().ask(asked(bound))) == 200
    assert status_of(rig.connect().ask(asked(bound + 1))) == status


def test_limit_request_body_answers_413():
    rig = Rig(echo, limit_request_body=10)
    assert status_of(rig.connect().ask(post(11))) == 413
    assert status_of(rig.connect().ask(post(10, b"x" * 10))) == 200
