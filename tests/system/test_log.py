"""The log of a whole server: its levels and colours, and a server without standard streams."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.support.requirements import library
from tests.support.server import APPS, Running, get


@pytest.mark.parametrize("workers", ["1", "2"])
def test_log_level_trace_shows_connections_and_messages_without_their_content(workers):
    with Running("plain:app", "--port", "0", "--log-level", "trace", "--workers", workers) as server:
        get(server.address, "/a")
        server.wait_for("HTTP connection lost")
        scope = server.wait_for("Started scope={'type': 'http'")
        assert scope.startswith("TRACE:    127.0.0.1:")
        assert " - ASGI [" in scope
        assert "'headers': '<...>'" in scope
        server.wait_for("Send {'type': 'http.response.start', 'status': 200, 'headers': '<...>'}")
        server.wait_for("'body': '<5 bytes>'")
        server.wait_for("] Completed")
        server.wait_for("TRACE:    ASGI [1] Receive {'type': 'lifespan.startup'}")
        assert server.wait_for("HTTP connection made").startswith("DEBUG:    127.0.0.1:")
        assert server.stop() in (0, 143)


def test_log_level_debug_shows_connections_and_workers_and_no_messages():
    with Running("plain:app", "--port", "0", "--log-level", "debug", "--workers", "2") as server:
        get(server.address)
        server.wait_for("HTTP connection lost")
        server.wait_for("DEBUG:    Worker 1 is ")
        server.wait_for("DEBUG:    Worker 2 is ")
        server.stop()
        assert "Started scope" not in server.log
        assert server.log.count("has ended.") == 2


def test_log_level_debug_shows_websocket_connections(tmp_path):
    library("websockets")
    from websockets.sync.client import connect

    (tmp_path / "app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'websocket':\n"
        "        await receive()\n"
        "        await send({'type': 'websocket.accept'})\n"
        "        await receive()\n"
    )
    with Running("app:app", "--port", "0", "--log-level", "debug", cwd=tmp_path) as server:
        with connect(server.url.replace("http", "ws") + "/ws"):
            server.wait_for("WebSocket connection made")
        assert server.wait_for("WebSocket connection lost").startswith("DEBUG:    127.0.0.1:")


def test_use_colors_makes_the_address_bold_and_the_process_cyan():
    with Running("plain:app", "--port", "0", "--use-colors") as server:
        assert "running on \x1b[1mhttp://127.0.0.1:" in server.log
        assert f"server process [\x1b[36;1m{server.process.pid}\x1b[0m]" in server.log


def test_access_log_of_a_server_is_complete_when_it_has_ended():
    with Running("plain:app", "--port", "0") as server:
        for number in range(20):
            get(server.address, f"/{number}")
        server.stop()
        for number in range(20):
            assert f'"GET /{number} HTTP/1.1" 200 OK' in server.log


# Without standard streams: pythonw, a service, `pounce app:app >&- 2>&-`

CLOSED = [(1,), (2,), (1, 2), (0, 1, 2)]  # descriptors


@pytest.mark.parametrize("closed", CLOSED, ids=str)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_without_standard_streams_serves_and_ends_in_order(closed, workers, tmp_path):
    def close_them():
        for fd in closed:
            os.close(fd)

    path = str(tmp_path / "s")
    (tmp_path / "app.py").write_text(
        "import subprocess, sys\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        print('to nobody')\n"
        "        subprocess.run([sys.executable, '-c', 'print(1)'], check=True)\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    command = [sys.executable, "-m", "pounce", "app:app", "--uds", path, "--workers", workers]
    process = subprocess.Popen(command, cwd=tmp_path, preexec_fn=close_them, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        wait_for_socket(process, path)
        for _ in range(3):
            assert get(path) == (200, b"hello")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert b"Traceback" not in out + errors
        assert b"Error" not in out + errors
    finally:
        process.kill()
        process.wait()


def wait_for_socket(process, path):
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the server has not begun to listen")


def test_testserver_in_a_program_whose_sys_stdout_and_stderr_are_none_serves():
    script = (
        "import sys; sys.stdout = sys.stderr = None\n"
        "from pounce.testing import TestServer\n"
        "from pounce import Config\nfrom pounce.logging import configure\n"
        "import socket, plain\n"
        "with TestServer(plain.app, log_config='default', access_log=True) as server:\n"
        "    s = socket.create_connection((server.host, server.port))\n"
        "    s.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "    assert s.recv(100).startswith(b'HTTP/1.1 200'), 1\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=APPS, capture_output=True, timeout=60)
    assert done.returncode == 0, done
    assert done.stderr == b""
