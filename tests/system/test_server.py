"""Whole servers: threads and processes, signals, deaths and ends. What is promised here is promised on either
kind of interpreter; where the workers are threads on one and processes on the other, the tests are the same."""

import json
import os
import signal
import socket
import threading
import time

import httpx
import pytest

import pounce
from pounce.supervisor.plan import has_gil
from pounce.testing import TestServer
from tests.support.server import Running, ask, get

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


def who(address):
    return json.loads(get(address, "/who")[1])


# Workers


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


# Signals and exit codes


def single(workers):
    """Is the server one process?"""
    return workers == "1" or not has_gil()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_in_order(workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        get(server.address)
        code = server.stop(signal.SIGTERM)
        assert code == (143 if single(workers) else 0)
        assert server.log.count("lifespan shutdown") == int(workers)
        assert "Finished server process" in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_in_order_with_0(workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        get(server.address)
        assert server.stop(signal.SIGINT) == 0
        assert server.log.count("lifespan shutdown") == int(workers)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_running_request_is_answered_before_the_end(workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(get(server.address, "/sleep?1")))
        thread.start()
        server.wait_until_busy(server.address)
        server.stop()
        thread.join()
        assert answers == [(200, b"slept")]


@pytest.mark.parametrize("path", ["/sleep?600", "/block?600"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_second_ctrl_c_ends_at_once_whatever_is_still_running(workers, path):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", path.encode() + b" ", 1))
        server.wait_until_busy(server.address)
        server.send_signal(signal.SIGINT)
        server.wait_for("Shutting down")
        assert server.process.poll() is None
        server.send_signal(signal.SIGINT)
        assert server.end() == 0
        assert "Traceback" not in server.log
        client.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_that_does_not_end_is_cancelled_after_the_graceful_time_and_named(workers):
    arguments = ("--timeout-graceful-shutdown", "1", "--workers", workers)
    with Running("plain:app", "--port", "0", *arguments) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", b"/sleep?600 ", 1))
        server.wait_until_busy(server.address)
        code = server.stop()
        assert code == (143 if single(workers) else 0)
        assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in server.log
        assert "Cancelled: GET /sleep in app (" in server.log
        assert b" 503 " in client.recv(1000)
        client.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_is_blocked_is_left_behind(workers):
    arguments = ("--timeout-graceful-shutdown", "0", "--workers", workers)
    with Running("plain:app", "--port", "0", *arguments) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", b"/block?600 ", 1))
        server.wait_until_busy(server.address)
        assert server.stop() == (143 if single(workers) else 0)
        client.close()


def test_a_helper_thread_that_does_not_end_is_left_behind():
    with Running("plain:app", "--port", "0", "--timeout-graceful-shutdown", "0") as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", b"/helper?600 ", 1))
        server.wait_until_busy(server.address)
        assert server.stop(signal.SIGINT) == 0
        assert "does not end; it is abandoned" in server.log
        client.close()


def test_ctrl_c_while_the_application_is_imported(tmp_path):
    # Short sleeps: a signal that comes just before a long one is noticed by CPython only after it.
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\nwhile True: time.sleep(0.01)\n")
    with Running("slow:app", "--port", "0", cwd=tmp_path, ready=False) as server:
        server.wait_for("importing")
        assert server.stop(signal.SIGINT) == 1
        assert server.lines[1:] == ["INFO:     Stopped by SIGINT before the application was imported."]
        assert "Traceback" not in server.log


# Nothing that was accepted is lost


class Clients:
    """Clients that ask without pause, each on a kept connection, and count: asked, answered, refused, cut.

    `cut` counts requests that were sent on an accepted connection and got no whole answer.
    """

    def __init__(self, address, count=8, path="/"):
        self.address = address
        self.request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        self.answered = self.refused = 0
        self.cut = []
        self.enough = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        sock = None
        while not self.enough.is_set():
            if sock is None:
                try:
                    sock = socket.create_connection(self.address, timeout=30)
                except OSError:
                    with self.lock:
                        self.refused += 1
                    time.sleep(0.01)
                    continue
            try:
                sock.sendall(self.request)
                answer = sock.recv(65536)
            except OSError as error:
                answer = error
            if not isinstance(answer, bytes) or not answer.endswith(b"hello"):
                with self.lock:
                    self.cut.append(answer)
                answer = b"connection: close"
            else:
                with self.lock:
                    self.answered += 1
            if b"connection: close" in answer:
                sock.close()
                sock = None
        if sock is not None:
            sock.close()

    def wait_for(self, answered):
        end = time.monotonic() + 60
        while self.answered < answered:
            assert time.monotonic() < end, (self.answered, self.refused, self.cut)
            time.sleep(0.01)

    def stop(self):
        self.enough.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("again", range(3))
def test_no_request_is_lost_when_a_busy_server_ends_and_another_takes_its_place(workers, again):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as first:
        clients = Clients(first.address)
        try:
            clients.wait_for(500)
            first.stop()
            port = str(first.address[1])
            with Running("plain:app", "--port", port, "--workers", workers, "--no-access-log") as second:
                clients.wait_for(clients.answered + 500)
                clients.stop()
                second.stop()
        finally:
            clients.stop()
        assert clients.cut == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_drains_refuses_at_once_and_leaves_its_port_to_the_next(workers):
    """A proxy in front turns to another server then; if it got no answer, it would wait for a second or more."""
    options = ("--workers", workers, "--timeout-graceful-shutdown", "600")
    with Running("plain:app", "--port", "0", *options) as first, socket.create_connection(first.address) as client:
        client.sendall(GET.replace(b"/ ", b"/sleep?600 ", 1))
        first.wait_until_busy(first.address)
        first.send_signal(signal.SIGTERM)
        first.wait_for("Shutting down")
        until(lambda: not accepts(first.address))
        until(lambda: bindable(first.address))
        with Running("plain:app", "--port", str(first.address[1]), "--workers", workers) as second:
            assert get(second.address) == (200, b"hello")
            assert first.process.poll() is None
            second.stop()
        first.stop()  # the second signal ends it at once


def until(happened, patience=30):
    end = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def accepts(address):
    try:
        socket.create_connection(address, 30).close()
    except ConnectionRefusedError:
        return False
    return True


def bindable(address):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_lies_in_the_accept_queue_is_answered(workers):
    # A worker that is blocked accepts nobody; who has connected meanwhile is served before the end.
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        blockers = [socket.create_connection(server.address) for _ in range(8)]
        for blocker in blockers:
            blocker.sendall(GET.replace(b"/ ", b"/block?1 ", 1))
        server.wait_until_busy(server.address)
        waiting = [socket.create_connection(server.address) for _ in range(20)]
        for client in waiting:
            client.sendall(GET)
        server.send_signal(signal.SIGTERM)
        for client in waiting:
            client.settimeout(30)
            assert client.recv(1000).endswith(b"hello")
        server.end()
        for client in waiting + blockers:
            client.close()


def test_a_request_limit_replaces_workers_and_loses_nobody():
    arguments = ("--workers", "2", "--limit-max-requests", "300", "--no-access-log")
    with Running("plain:app", "--port", "0", *arguments) as server:
        clients = Clients(server.address)
        server.wait_for("Maximum request limit of 300 exceeded.", count=8)
        clients.wait_for(clients.answered + 500)
        clients.stop()
        assert clients.cut == []
        assert clients.refused == 0
        assert server.stop() == (143 if single("2") else 0)


def test_the_request_limit_of_the_only_worker_ends_the_server():
    with Running("plain:app", "--port", "0", "--limit-max-requests", "5") as server:
        for _ in range(5):
            assert get(server.address) == (200, b"hello")
        assert server.end() == 0
        assert "Maximum request limit of 5 exceeded." in server.log


# Workers that die


@pytest.mark.skipif(not has_gil(), reason="workers are threads here: a thread cannot be killed")
def test_a_killed_worker_process_is_replaced_and_takes_only_its_own_requests_with_it():
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
def test_a_worker_process_that_is_told_to_end_is_replaced():
    with Running("plain:app", "--port", "0", "--workers", "2", "--no-access-log") as server:
        pids = {who(server.address)["pid"] for _ in range(50)}
        clients = Clients(server.address)
        clients.wait_for(200)
        os.kill(min(pids), signal.SIGTERM)
        clients.wait_for(clients.answered + 500)
        clients.stop()
        assert clients.cut == []
        assert min(pids) not in {who(server.address)["pid"] for _ in range(50)}


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.skipif(
    has_gil(), reason="the test reaches into the worker, which is another process here"))])  # fmt: skip
def test_a_loop_that_fails_under_load_loses_nobody(workers, caplog):
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


# The server as an object


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


def test_a_test_server_is_a_context():
    with TestServer(hello) as server, httpx.Client(base_url=server.url) as client:
        assert [client.get("/").text for _ in range(3)] == ["hello"] * 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_a_test_server_that_does_not_start_says_so(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="has not started"), TestServer(app):
        pass
    assert "no database" in caplog.text


def test_run_raises_what_cannot_be():
    with pytest.raises(pounce.ConfigError, match="port=-1"):
        pounce.run(hello, port=-1)


@pytest.mark.skipif(has_gil(), reason="needs worker threads")
def test_more_threads_than_sense():
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

    with TestServer(app) as server, httpx.Client(base_url=server.url) as client:
        for size in (0, 1, 1000, 100_000, 3_000_000):
            content = os.urandom(size)
            assert client.post("/", content=content).content == content
            assert client.post("/", content=iter([content, content])).content == content * 2
