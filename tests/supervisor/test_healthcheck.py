"""--timeout-worker-healthcheck: a worker process in which nothing answers is ended and replaced, as with uvicorn."""

import signal

import pytest

from tests.support.server import Running, ask, get

ARGUMENTS = ("--port", "0", "--workers", "2", "--worker-kind", "process")


def pids(server):
    """Of the workers that answer."""
    return {int(get(server.address, "/pid")[1]) for _ in range(30)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(
        "import os, time, signal\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        if scope['path'] == '/block': time.sleep(3)\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n"
        "        if scope['path'] == '/hang': os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    return tmp_path


def test_timeout_worker_healthcheck_replaces_a_process_that_does_not_answer(folder):
    with Running("app:app", *ARGUMENTS, "--timeout-worker-healthcheck", "1", cwd=folder) as server:
        hung = int(get(server.address, "/hang")[1])
        line = server.wait_for("is given up, nothing in it has answered for")
        assert f"(process {hung})" in line
        server.wait_for("Starting worker")
        assert hung not in pids(server)
        assert server.stop() == 0
        assert server.log.count("is given up") == 1


def test_timeout_worker_healthcheck_spares_a_handler_that_blocks(folder):
    with Running("app:app", *ARGUMENTS, "--timeout-worker-healthcheck", "1", cwd=folder) as server:
        answer = ask(server.address, b"GET /block HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        server.wait_for("responds again")
        assert "is given up" not in server.log


def test_timeout_worker_healthcheck_can_be_off_and_has_no_effect_on_threads(folder):
    arguments = ("--timeout-worker-healthcheck", "off", "--worker-kind", "thread", "--workers", "2")
    with Running("app:app", "--port", "0", *arguments, cwd=folder) as server:
        assert server.stop(signal.SIGINT) == 0
