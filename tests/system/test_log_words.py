"""The log at debug and trace, in colour and without, without standard streams, and configured for uvicorn."""

import io
import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from pounce.config.config import Config
from pounce.logging import LOGGING_CONFIG, AccessFormatter, ColourizedFormatter, DefaultFormatter, configure
from tests.support.requirements import library
from tests.support.server import APPS, Running, get

NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "pounce.asgi")


@pytest.fixture(autouse=True)
def _restored():
    """conftest restores pounce's own."""
    yield
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers, logger.filters, logger.propagate, logger.disabled = [], [], True, False
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_trace_shows_every_message_and_connection(workers):
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


def test_debug_shows_connections_and_workers_and_no_messages():
    with Running("plain:app", "--port", "0", "--log-level", "debug", "--workers", "2") as server:
        get(server.address)
        server.wait_for("HTTP connection lost")
        server.wait_for("DEBUG:    Worker 1 is ")
        server.wait_for("DEBUG:    Worker 2 is ")
        server.stop()
        assert "Started scope" not in server.log
        assert server.log.count("has ended.") == 2


def test_a_websocket_is_a_connection_too(tmp_path):
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


@pytest.mark.parametrize(
    ("variables", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_where_somebody_wants_them(variables, terminal, wanted, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("stdout", "stderr"):
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        monkeypatch.setattr(sys, name, stream)
    assert DefaultFormatter().use_colors is AccessFormatter().use_colors is wanted
    assert DefaultFormatter(use_colors=not wanted).use_colors is not wanted


def test_a_coloured_message_takes_the_place_of_the_plain_one():
    record = logging.LogRecord("x", 20, "f", 1, "at %s", ("home",), None)
    record.color_message = "AT %s"
    assert ColourizedFormatter("%(levelprefix)s %(message)s", use_colors=False).format(record) == "INFO:     at home"
    assert ColourizedFormatter("%(message)s", use_colors=True).format(record) == "AT home"


def test_the_address_is_bold_and_the_process_cyan():
    with Running("plain:app", "--port", "0", "--use-colors") as server:
        assert "running on \x1b[1mhttp://127.0.0.1:" in server.log
        assert f"server process [\x1b[36;1m{server.process.pid}\x1b[0m]" in server.log


class Dropping(logging.Filter):
    def filter(self, record):
        return "/health" not in record.getMessage()


def for_uvicorn():
    text = json.dumps(LOGGING_CONFIG).replace("pounce", "uvicorn")
    config = json.loads(text)
    config["formatters"]["default"]["fmt"] = "mine %(levelprefix)s %(message)s"
    config["filters"] = {"health": {"()": f"{__name__}.Dropping"}}
    config["loggers"]["uvicorn.access"]["filters"] = ["health"]
    return config


INI = """\
[loggers]
keys=root,uvicorn,access
[handlers]
keys=out
[formatters]
keys=plain
[logger_root]
handlers=
[logger_uvicorn]
qualname=uvicorn
level=INFO
handlers=out
propagate=0
[logger_access]
qualname=uvicorn.access
level=INFO
handlers=
[handler_out]
class=StreamHandler
args=(sys.stderr,)
formatter=plain
[formatter_plain]
class=uvicorn.logging.DefaultFormatter
format=mine %(levelprefix)s %(message)s
"""


@pytest.mark.parametrize("kind", ["dict", "json", "ini"])
def test_a_configuration_written_for_uvicorn(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    path = tmp_path / f"log.{kind}"
    path.write_text(INI if kind == "ini" else json.dumps(for_uvicorn()))
    configure(Config("a:b", log_config=for_uvicorn() if kind == "dict" else path))
    logging.getLogger("pounce.error").info("hello")
    logging.getLogger("uvicorn.error").info("from the application")
    said = "--log-config: what it says of uvicorn's loggers is applied to pounce's."
    lines = [f"mine INFO:     {text}\n" for text in (said, "hello", "from the application")]
    assert sys.stderr.getvalue() == "".join(lines)
    access = logging.getLogger("pounce.access")
    for path in ("/health", "/other"):
        access.info('%s - "%s %s HTTP/%s" %d', "c", "GET", path, "1.1", 200)
    written = sys.stderr.getvalue() if kind == "ini" else sys.stdout.getvalue()
    assert ("/health" in written) is (kind == "ini")
    assert "/other" in written


def test_a_configuration_of_our_own_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    both = for_uvicorn()
    both["loggers"]["pounce"] = {"handlers": ["default"], "level": "WARNING", "propagate": False}
    both["formatters"]["default"]["()"] = "pounce.logging.DefaultFormatter"
    both["formatters"]["access"]["()"] = "pounce.logging.AccessFormatter"
    configure(Config("a:b", log_config=both))
    assert logging.getLogger("pounce").level == logging.WARNING
    assert "applied" not in sys.stderr.getvalue()


# pythonw, a service, `pounce app:app >&- 2>&-`

NOT_ACCEPTING = [(1,), (2,), (1, 2), (0, 1, 2)]


@pytest.mark.parametrize("shut", NOT_ACCEPTING, ids=str)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_standard_streams(shut, workers, tmp_path):
    def shut_them():
        for fd in shut:
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
    process = subprocess.Popen(command, cwd=tmp_path, preexec_fn=shut_them, stdin=subprocess.PIPE,
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
    import socket
    import time

    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("it does not run")


def test_from_a_program_without_streams():
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
