"""Workers of a whole server: threads and processes, limits, deaths and replacements that lose no request."""

import json
import os
import signal
import threading
import time

import httpx
import pytest

import pounce
from pounce.supervisor.plan import has_gil
from pounce.testing import TestServer
from tests.support.requests import GET
from tests.support.server import Running, ask, get, single
from tests.support.upgrades import wait_ended
from tests.system.traffic import Clients


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


def who(address):
    return json.loads(get(address, "/who")[1])


def test_workers_are_threads_without_the_gil_and_processes_with_it():
    with Running("plain:app", "--port", "0", "--threads", "3") as server:
        answers = [who(server.address) for _ in range(60)]
        pids = {answer["pid"] for answer in answers}
        threads = {answer["thread"] for answer in answers}
        if has_gil():
            assert "3 worker processes, because this Python has the GIL" in server.log
            assert len(pids) > 1
            assert server.process.pid not in pids
        else:
            assert "free-threaded, 3 worker threads" in server.log
            assert pids == {server.process.pid}
            assert len(threads) > 1
            assert threads <= {"pounce-worker-1", "pounce-worker-2", "pounce-worker-3"}


def test_a_single_worker_is_a_thread_of_the_server():
    with Running("plain:app", "--port", "0") as server:
        assert who(server.address)["pid"] == server.process.pid


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serving_a_plain_application_never_imports_asyncio(workers):
    with Running("plain:app", "--port", "0", "--threads", workers) as server:
        for path in ("/", "/sleep?0.01", "/helper?0.01", "/stream"):
            assert get(server.address, path)[0] == 200
        assert not any(who(server.address)["asyncio"] for _ in range(20))


def test_limit_max_requests_replaces_workers_and_loses_no_request():
    arguments = ("--workers", "2", "--limit-max-requests", "300", "--no-access-log")
    with Running("plain:app", "--port", "0", *arguments) as server:
        clients = Clients(server.address)
        server.wait_for("Maximum request limit of 300 exceeded.", count=8)
        clients.wait_for(clients.answered + 500)
        clients.stop()
        assert clients.cut == []
        assert clients.refused == 0
        assert server.stop() == (143 if single("2") else 0)


def test_limit_max_requests_of_the_only_worker_ends_the_server():
    with Running("plain:app", "--port", "0", "--limit-max-requests", "5") as server:
        for _ in range(5):
            assert get(server.address) == (200, b"hello")
        assert server.end() == 0
        assert "Maximum request limit of 5 exceeded." in server.log


@pytest.mark.skipif(not has_gil(), reason="workers are threads here: a thread cannot be killed")
def test_a_killed_worker_process_is_replaced_and_loses_its_own_requests_only():
    with Running("plain:app", "--port", "0", "--workers", "2", "--no-access-log") as server:
        pids = {who(server.address)["pid"] for _ in range(50)}
        clients = Clients(server.address, count=8)
        clients.wait_for(500)
        os.kill(min(pids), signal.SIGKILL)
        server.wait_for("died")
        clients.wait_for(clients.answered + 1000)
        clients.stop()
        assert f"(process {min(pids)}) died" in server.log
        assert len(clients.cut) <= 8  # one running request for each connection, and nothing from the queue
        assert clients.refused == 0
        assert {who(server.address)["pid"] for _ in range(50)} != pids
        assert server.stop() == 0


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
def test_worker_processes_end_when_their_parent_is_killed():
    with Running("plain:app", "--port", "0", "--workers", "2") as server:
        pids = {who(server.address)["pid"] for _ in range(50)}
        assert len(pids) == 2
        server.process.kill()
        end = time.monotonic() + 30
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
def test_a_worker_that_dies_again_and_again_ends_the_server():
    with Running("plain:dying", "--port", "0", "--workers", "2") as server:
        end = time.monotonic() + 60
        while server.process.poll() is None and time.monotonic() < end:
            try:
                ask(server.address, GET)
            except OSError:
                time.sleep(0.01)
        assert server.end() == 3
        assert "times in a row. Exiting." in server.log


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
def test_a_worker_process_that_gets_sigterm_is_replaced():
    with Running("plain:app", "--port", "0", "--workers", "2", "--no-access-log") as server:
        pids = {who(server.address)["pid"] for _ in range(50)}
        clients = Clients(server.address)
        clients.wait_for(200)
        os.kill(min(pids), signal.SIGTERM)
        clients.wait_for(clients.answered + 500)
        wait_ended(min(pids))
        clients.stop()
        assert clients.cut == []
        assert min(pids) not in {who(server.address)["pid"] for _ in range(50)}


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.skipif(
    has_gil(), reason="the test reaches into the worker, which is another process here"))])  # fmt: skip
def test_a_loop_that_fails_under_load_loses_no_request(workers, caplog):
    with TestServer(hello, workers=workers) as server:
        clients = Clients((server.host, server.port))
        clients.wait_for(300)

        def fail():
            raise ZeroDivisionError("in the loop")

        for round_ in range(3):
            slot = server.server._supervisor._pool.slots[round_ % workers]
            slot.worker._worker.loop.post(fail)
            clients.wait_for(clients.answered + 300)
        clients.stop()
        assert clients.cut == []
        assert clients.refused == 0
    assert caplog.text.count("in the loop") >= 3
    assert "Starting worker 1 again." in caplog.text or caplog.text.count("is being replaced") == 3


def test_a_server_on_a_thread_as_uvicorns_users_write_it():
    server = pounce.Server(pounce.Config(hello, port=0, log_config=None, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.wait_started(10)
    assert server.started
    host, port = server.addresses[0]
    assert httpx.get(f"http://{host}:{port}/").text == "hello"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_testserver_is_a_context_manager():
    with TestServer(hello) as server, httpx.Client(base_url=server.url) as client:
        assert [client.get("/").text for _ in range(3)] == ["hello"] * 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_testserver_that_does_not_start_raises(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="has not started"), TestServer(app):
        pass
    assert "no database" in caplog.text


def test_run_raises_config_errors():
    with pytest.raises(pounce.ConfigError, match="port=-1"):
        pounce.run(hello, port=-1)


@pytest.mark.skipif(has_gil(), reason="needs worker threads")
def test_many_more_threads_than_cpus_serve():
    with TestServer(hello, threads=64) as server:
        for _ in range(100):
            assert httpx.get(server.url).status_code == 200


def test_httpx_over_kept_connections_with_bodies_and_streams():
    async def app(scope, receive, send):
        messages = []  # httpx reads when it has written everything, and nobody keeps an answer for it until then
        while not messages or messages[-1]["more_body"]:
            messages.append(await receive())
        await send({"type": "http.response.start", "status": 200})
        for message in messages:
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})

    with TestServer(app) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for size in (0, 1, 1000, 100_000, 3_000_000):
            content = os.urandom(size)
            assert client.post("/", content=content).content == content
            assert client.post("/", content=iter([content, content])).content == content * 2
