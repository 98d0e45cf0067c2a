"""How a worker drains: stop, retire, the graceful time-out, a loop that fails."""

import logging
import socket
import sys
import threading

import pytest

import pounce
from pounce.connections.context import DRAIN_IDLE, RETIRE_IDLE
from pounce.testing import TestServer
from pounce.worker.control import Report, WorkerState
from tests.support.answers import content_of, status_of
from tests.support.applications import body, hello, start
from tests.support.harness import Rig
from tests.support.requests import CLOSE, GET
from tests.support.server import ask


def test_stop_closes_idle_connections_and_lets_running_requests_end():
    async def app(scope, receive, send):
        await pounce.sleep(3)
        await hello(scope, receive, send)

    rig = Rig(app)
    running, idle = rig.connect(), rig.connect()
    rig.wait(1)
    running.send(GET)
    rig.worker.stop()
    rig.wait(0.6)  # the last call of a client that has only just connected
    assert idle.closed
    assert not running.closed
    rig.wait(3)
    answer = running.read()
    assert content_of(answer) == b"hello"
    assert b"connection: close" in answer
    assert running.closed
    assert rig.worker.state.value == "ended"


def test_stop_answers_a_request_that_the_kernel_holds_already():
    rig = Rig(hello)
    client = rig.connect()
    client.ask(GET)
    rig.wait(2)
    client.sock.sendall(GET)  # the loop has not turned since
    rig.worker.stop()
    assert content_of(client.read()) == b"hello"
    assert client.closed


def test_stop_waits_a_moment_for_a_connection_that_was_just_busy():
    rig = Rig(hello)
    busy, idle = rig.connect(), rig.connect()
    idle.ask(GET)
    rig.wait(1)
    busy.ask(GET)
    rig.worker.stop()
    assert idle.closed
    assert not busy.closed
    answer = busy.ask(GET)
    assert content_of(answer) == b"hello"
    assert b"connection: close" in answer
    assert busy.closed


def test_retire_waits_longer_for_idle_connections_than_stop():
    # Found by `races`: of 2.4 million requests, 17 crossed with the end of a connection whose worker retired.
    rig = Rig(hello, timeout_keep_alive=60)
    idle, asking, silent, older = (rig.connect() for _ in range(4))
    older.ask(GET)
    rig.wait(4)
    idle.ask(GET)
    asking.ask(GET)
    rig.wait(2)
    rig.worker.retire()
    assert older.closed
    rig.wait(RETIRE_IDLE - 1)
    assert not idle.closed
    answer = asking.ask(GET)
    assert content_of(answer) == b"hello"
    assert b"connection: close" in answer
    rig.wait(2)
    assert idle.closed
    assert silent.closed
    assert not rig.worker.connections


def test_retire_in_a_hurry_waits_for_idle_connections_as_stop_does():
    rig = Rig(hello, timeout_keep_alive=60)
    idle = rig.connect()
    idle.ask(GET)
    rig.worker.retire(hurry=True)
    rig.wait(DRAIN_IDLE + 0.1)
    assert idle.closed


def test_retire_ends_a_worker_that_has_not_been_told_to_serve():
    rig = Rig(hello, serves=False)
    rig.worker.retire()
    rig.turn()
    assert rig.worker.state is WorkerState.ENDED


def test_stop_after_retire_closes_idle_connections_soon():
    rig = Rig(hello, timeout_keep_alive=60)
    idle = rig.connect()
    idle.ask(GET)
    rig.worker.retire()
    rig.wait(1)
    assert not idle.closed
    rig.worker.stop()
    rig.wait(DRAIN_IDLE + 0.1)
    assert idle.closed


def test_stop_waits_for_a_request_head_that_has_begun():
    rig = Rig(hello)
    client = rig.connect()
    client.send(GET[:10])
    rig.worker.stop()
    rig.wait(1)
    assert content_of(client.ask(GET[10:])) == b"hello"
    assert client.closed


def test_cancel_after_the_graceful_time_answers_503_and_names_the_request(caplog):
    seen = []

    async def app(scope, receive, send):
        try:
            await pounce.sleep(1000)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    rig = Rig(app)
    client = rig.connect()
    client.send(GET.replace(b"/ ", b"/stuck ", 1))
    rig.worker.stop()
    rig.wait(30)
    assert rig.worker.state.value == "draining"
    rig.worker.cancel()
    rig.wait(1.1)
    assert seen == ["Cancelled"]
    assert status_of(client.read()) == 503
    assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in caplog.text
    assert f"Cancelled: GET /stuck in {app.__qualname__} ({__file__}:" in caplog.text
    assert rig.worker.state.value == "ended"


def test_cancel_abandons_an_application_that_ignores_it():
    async def app(scope, receive, send):
        while True:
            try:
                await pounce.sleep(1000)
            except GeneratorExit:  # the end of the test
                raise
            except BaseException:
                continue

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    rig.worker.stop()
    rig.wait(1)
    rig.worker.cancel()
    rig.wait(1.1)
    assert rig.worker.state.value == "ended"
    assert client.closed


def test_limit_max_requests_makes_a_worker_ask_for_a_successor():
    rig = Rig(hello, limit_max_requests=3)
    client = rig.connect()
    assert [status_of(client.ask(GET)) for _ in range(3)] == [200] * 3
    assert rig.reports[1].value == "wants a successor"
    rig.worker.retire()  # as it is told
    answer = client.ask(GET)  # the last call
    assert b"connection: close" in answer
    rig.wait(1)
    assert rig.worker.state.value == "ended"


def test_a_worker_whose_loop_fails_drains_and_asks_for_a_successor(caplog):
    rig = Rig(hello)
    client = rig.connect()
    client.ask(GET)

    def fail():
        raise ZeroDivisionError("in the loop")

    rig.loop.call_soon(fail)
    client.sock.sendall(GET)
    with pytest.raises(ZeroDivisionError):
        rig.loop.turn(0)
    with caplog.at_level(logging.CRITICAL):
        try:
            raise ZeroDivisionError("in the loop")
        except ZeroDivisionError:
            rig.worker._loop_failed()
    assert "in the loop" in caplog.text
    assert rig.reports[1].value == "loop failed"
    assert client.read().count(b"200 OK") == 1
    rig.wait(1)
    assert rig.worker.state.value == "ended"


# Found by comparing the code with an earlier one.
@pytest.mark.parametrize("option", [{}, {"timeout_request": 1}], ids=["failed", "timed out"])
def test_limit_max_requests_does_not_count_responses_that_are_cut_off(option):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"some of it", more=True))
        if option:
            await pounce.sleep(1000)

    rig = Rig(app, limit_max_requests=1, **option)
    client = rig.connect()
    client.send(GET)
    rig.wait(3)
    assert client.closed or client.read().endswith(b"some of it\r\n")
    assert rig.reports == [Report.READY]


# Found by reading the code.
def test_limit_max_requests_lets_a_worker_serve_until_it_is_retired():
    rig = Rig(hello, limit_max_requests=1)
    client = rig.connect()
    for _ in range(3):
        assert b"connection: close" not in client.ask(GET)
    assert rig.reports.count(Report.WANTS_SUCCESSOR) == 1
    rig.worker.retire()
    assert b"connection: close" in client.ask(GET)


# Found by reading the code.
@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
def test_limit_max_requests_of_the_only_worker_refuses_connections_during_shutdown():
    closing, enough = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            closing.set()
            while not enough.is_set():
                await pounce.sleep(0.01)
            await send({"type": "lifespan.shutdown.complete"})
            return
        await hello(scope, receive, send)

    with TestServer(app, lifespan="on", limit_max_requests=1) as server:
        address = (server.host, server.port)
        assert ask(address, CLOSE).endswith(b"hello")
        assert closing.wait(10)
        try:
            with pytest.raises(OSError, match=r"timed out|refused"):  # and not reset, with a request on the way
                socket.create_connection(address, timeout=0.3)
        finally:
            enough.set()


# Found by reading the code.
def test_lifespan_shutdown_comes_after_work_behind_the_last_response():
    happened = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            happened.append("lifespan")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await hello(scope, receive, send)
        await pounce.sleep(3)
        happened.append("behind")

    rig = Rig(app, lifespan="on")
    rig.turn()
    rig.worker.serve()
    client = rig.connect()
    client.send(GET[:10])
    rig.worker.stop()
    rig.wait(0.2)
    assert b"connection: close" in client.ask(GET[10:])
    rig.wait(5)
    assert happened == ["behind", "lifespan"]
