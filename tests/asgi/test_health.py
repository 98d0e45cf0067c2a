"""--health: the server answers for itself, before the application."""

import logging

import pytest

from pounce.worker.worker import Report
from tests.support.answers import read_answers
from tests.support.gate import Gate, named
from tests.support.harness import Rig


async def never(scope, receive, send):
    raise AssertionError(scope["path"])


def healthz(method="GET", path="/healthz"):
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def answer(rig, data, **how):
    [found] = read_answers(rig.connect().ask(data), **how)
    return found


@pytest.mark.parametrize("path", ["/healthz", "/healthz?verbose=1"])
def test_health_answers_200_without_the_application(path):
    found = answer(Rig(never, health="/healthz"), healthz(path=path))
    assert (found.status, found.content) == (200, b"ok\n")
    assert found.get(b"content-type") == b"text/plain; charset=utf-8"
    assert found.get(b"cache-control") == b"no-store"


def test_health_answers_head_with_the_same_head_and_no_content():
    rig = Rig(never, health="/healthz")
    head = answer(rig, healthz("HEAD"), heads=[0])
    assert head.status == 200
    assert head.content == b""
    assert head.fields == answer(rig, healthz()).fields


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_health_answers_other_methods_405_with_allow(method):
    found = answer(Rig(never, health="/healthz"), healthz(method))
    assert found.status == 405
    assert found.get(b"allow") == b"GET, HEAD"


@pytest.mark.parametrize("path", ["/healthz/", "/HEALTHZ", "/health%7a", "/", "/x/healthz", "//healthz"])
def test_health_leaves_every_other_path_to_the_application(path):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 418})
        await send({"type": "http.response.body"})

    assert answer(Rig(app, health="/healthz"), healthz(path=path)).status == 418


def test_health_is_off_by_default():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 418})
        await send({"type": "http.response.body"})

    assert answer(Rig(app), healthz()).status == 418


def test_health_throws_content_away_and_the_connection_goes_on():
    rig = Rig(never, health="/healthz")
    posted = b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    client = rig.connect()
    data = client.ask(posted + healthz() + posted[:-5])
    data += client.ask(b"hello" + healthz())
    assert [each.status for each in read_answers(data)] == [405, 200, 405, 200]


def test_health_does_not_ask_a_client_for_content_that_it_will_not_read():
    rig = Rig(never, health="/healthz")
    client = rig.connect()
    expecting = b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    [found] = read_answers(client.ask(expecting))
    assert found.status == 405
    assert found.get(b"connection") == b"close"
    assert client.closed


def test_health_is_neither_logged_nor_counted(caplog):
    rig = Rig(never, health="/healthz", access_log=True, limit_max_requests=2)
    caplog.set_level(logging.INFO)
    for _ in range(5):
        assert answer(rig, healthz()).status == 200
    assert Report.WANTS_SUCCESSOR not in rig.reports
    assert "healthz" not in caplog.text


@pytest.mark.parametrize("queue", [0, 5])
def test_health_is_answered_where_limit_concurrency_refuses_requests(queue):
    app = Gate()
    rig = Rig(app, health="/healthz", limit_concurrency=1, limit_queue=queue)
    rig.connect().send(named("a"))
    assert list(app.inside) == ["a"]
    assert answer(rig, healthz()).status == 200


def test_health_answers_503_and_closes_when_the_server_ends():
    app = Gate()
    rig = Rig(app, health="/healthz")
    rig.connect().send(named("a"))
    client = rig.connect()
    assert read_answers(client.ask(healthz()))[0].status == 200
    rig.worker.stop()
    [found] = read_answers(client.ask(healthz()))
    assert (found.status, found.content) == (503, b"draining\n")
    assert found.get(b"connection") == b"close"
    assert client.closed


def test_health_answers_200_while_a_worker_that_is_replaced_drains():
    app = Gate()
    rig = Rig(app, health="/healthz")
    rig.connect().send(named("a"))
    client = rig.connect()
    rig.worker.retire()
    assert read_answers(client.ask(healthz()))[0].status == 200


def test_health_answers_503_when_the_server_ends_while_the_worker_is_replaced():
    app = Gate()
    rig = Rig(app, health="/healthz")
    rig.connect().send(named("a"))
    client = rig.connect()
    rig.worker.retire()
    rig.worker.stop()
    assert read_answers(client.ask(healthz()))[0].status == 503
