"""limit_concurrency with limit_queue and queue_timeout: who runs, who waits, who is refused."""

import contextlib
import socket

import pytest

import pounce
from pounce.config.config import Config
from tests.support.answers import content_of, status_of
from tests.support.gate import Gate, crowd, named
from tests.support.harness import Rig


def test_limit_queue_makes_requests_above_limit_concurrency_wait_for_their_turn(caplog):
    app, rig = crowd()
    clients = {name: rig.connect() for name in "abcd"}
    for name, client in clients.items():
        client.send(named(name))
    assert sorted(app.inside) == ["a", "b"]
    assert caplog.text.count("Exceeded concurrency limit; requests are waiting.") == 1
    app.inside["b"].wake()
    assert content_of(clients["b"].read()) == b"b"
    assert sorted(app.inside) == ["a", "c"]  # in order of arrival
    for name in "acd":
        app.inside[name].wake()
        assert content_of(clients[name].read()) == name.encode()
    assert content_of(clients["a"].ask(named("a2"))) == b""
    app.inside["a2"].wake()
    assert content_of(clients["a"].read()) == b"a2"  # the connections go on
    assert rig.worker.exchanges == set()


def test_limit_queue_that_is_full_answers_503_with_retry_after():
    _, rig = crowd()
    for name in "ab":
        rig.connect().send(named(name))
    rig.connect().send(named("c"))
    rig.wait(2.5)
    rig.connect().send(named("d"))
    client = rig.connect()
    answer = client.ask(named("e"))
    assert status_of(answer) == 503
    assert b"\r\nretry-after: 3\r\n" in answer  # the first in the queue has waited so long, and a bit
    assert b"\r\nconnection: close\r\n" in answer
    assert client.closed


def test_queue_timeout_answers_503_with_retry_after_and_frees_the_place():
    app, rig = crowd(queue_timeout=4.0)
    clients = {name: rig.connect() for name in "abcd"}
    for name in "abc":
        clients[name].send(named(name))
    rig.wait(1.0)
    clients["d"].send(named("d"))
    rig.wait(2.9)
    assert clients["c"].read() == b""
    rig.wait(0.2)
    answer = clients["c"].read()
    assert status_of(answer) == 503
    assert b"\r\nretry-after: 5\r\n" in answer or b"\r\nretry-after: 4\r\n" in answer
    assert clients["c"].closed
    rig.connect().send(named("e"))
    rig.wait(0.9)
    assert status_of(clients["d"].read()) == 503
    app.inside["a"].wake()
    rig.turn()
    assert sorted(app.inside) == ["b", "e"]


def test_limit_queue_logs_how_many_were_admitted_and_refused_and_the_longest_wait(caplog):
    caplog.set_level("INFO", "pounce.error")
    app, rig = crowd(queue_timeout=4.0)
    for name in "abcd":
        rig.connect().send(named(name))
    rig.connect().send(named("e"))
    rig.wait(1.5)
    app.inside["a"].wake()
    rig.turn()
    assert "No more requests" not in caplog.text
    rig.wait(2.5)
    assert "1 were admitted, 2 refused; the longest wait was 4.00 s." in caplog.text
    admission = rig.worker.service.admission
    assert (admission.admitted, admission.refused, admission.longest_wait) == (0, 0, 0.0)


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_limit_queue_frees_the_place_of_a_client_that_leaves(how):
    app, rig = crowd()
    clients = {name: rig.connect() for name in "abcd"}
    for name, client in clients.items():
        client.send(named(name))
    if how == "half":  # it sends no more, but still waits for its answer
        clients["c"].sock.shutdown(socket.SHUT_WR)
        rig.turn()
        app.inside["a"].wake()
        app.inside["b"].wake()
        rig.turn()
        app.inside["c"].wake()
        assert content_of(clients["c"].read()) == b"c"
        return
    if how == "reset":
        rig.worker.connections.copy()
        for connection in rig.worker.connections:
            if connection.handler.request.path == b"/c":
                connection.stream.abort()
                break
    clients["c"].close()
    # A closed socket is the end of the input at first: only a write tells that nobody reads any more.
    app.inside["a"].wake()
    app.inside["b"].wake()
    rig.turn()
    if "c" in app.inside:
        app.inside["c"].wake()
        rig.turn()
    app.inside["d"].wake()
    assert content_of(clients["d"].read()) == b"d"
    assert not app.inside
    assert not rig.worker.exchanges


def test_limit_queue_keeps_content_that_comes_while_its_request_waits():
    app, rig = crowd()
    for name in "ab":
        rig.connect().send(named(name))
    client = rig.connect()
    client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour")
    client.send(b"more")
    app.inside["a"].wake()
    rig.turn()
    assert app.contents[-1] == b"fourmore"
    app.inside["c"].wake()
    assert content_of(client.read()) == b"c"


def test_limit_queue_bounds_content_of_a_waiting_request_and_answers_408():
    _, rig = crowd(timeout_request_body=3.0, queue_timeout=60.0)
    for name in "ab":
        rig.connect().send(named(name))
    slow, fast = rig.connect(), rig.connect()
    slow.send(b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour")
    fast.send(b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
    with contextlib.suppress(BlockingIOError):
        while True:
            fast.send(bytes(65536))
    (reading,) = [c for c in rig.worker.connections if c.handler.request.path == b"/d"]
    assert reading._untaken < 300_000
    rig.wait(3.1)
    assert status_of(slow.read()) == 408
    assert fast.read() == b""
    assert len(rig.worker.service.admission._waiting) == 1


def test_limit_queue_keeps_pipelined_requests_behind_the_one_that_waits():
    app, rig = crowd()
    for name in "ab":
        rig.connect().send(named(name))
    client = rig.connect()
    client.send(named("c") + named("d"))
    app.inside["a"].wake()
    rig.turn()
    assert sorted(app.inside) == ["b", "c"]
    app.inside["c"].wake()
    rig.turn()
    app.inside["d"].wake()
    answers = client.read()
    assert 0 < answers.index(b"\r\n\r\nc") < answers.index(b"\r\n\r\nd")


def test_limit_queue_of_quick_requests_does_not_hold_up_the_loop():
    app = Gate()

    async def gate(scope, receive, send):
        if scope["path"] == "/a":
            await app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"quick"})

    rig = Rig(gate, limit_concurrency=1, limit_queue=100)
    rig.connect().send(named("a"))
    clients = [rig.connect() for _ in range(100)]
    for client in clients:
        client.send(named("b"))
    assert all(client.read() == b"" for client in clients)
    app.inside["a"].wake()
    rig.loop.turn(0)
    rig.loop.turn(0)
    rig.loop.turn(0)
    assert 0 < len(rig.worker.service.admission._waiting) < 100
    assert all(content_of(client.read()) == b"quick" for client in clients)


def test_stop_serves_the_limit_queue_and_cancel_answers_it_503():
    app, rig = crowd(queue_timeout=60.0)
    clients = {name: rig.connect() for name in "abcd"}
    for name, client in clients.items():
        client.send(named(name))
    rig.worker.stop()
    app.inside["a"].wake()
    rig.turn()
    app.inside["c"].wake()
    answer = clients["c"].read()
    assert content_of(answer) == b"c"
    assert b"connection: close" in answer
    rig.worker.cancel()
    assert status_of(clients["d"].read()) == 503
    assert status_of(clients["b"].read()) == 503
    rig.wait(2.0)
    assert rig.worker.state.name == "ENDED"


def test_limit_concurrency_with_limit_queue_does_not_count_idle_connections():
    app, rig = crowd()
    for _ in range(10):
        rig.connect()
    client = rig.connect()
    client.send(named("a"))
    app.inside["a"].wake()
    assert content_of(client.read()) == b"a"


def test_limit_queue_needs_limit_concurrency():
    with pytest.raises(pounce.ConfigError, match="limit_queue needs limit_concurrency"):
        Config("app", limit_queue=5)
