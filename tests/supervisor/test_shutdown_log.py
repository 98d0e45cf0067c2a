"""What a server that ends waits for is said; and a forced end says nothing else."""

import base64
import signal
import socket
from collections import Counter

import pytest

from pounce.supervisor.shutdown_progress import INTERVAL, MAX_NAMES, REPEAT_AFTER, ShutdownProgress
from pounce.worker.census import NONE_IN_FLIGHT, InFlight
from tests.support.harness import skipping_loop
from tests.support.server import Running, get

STARLETTE, PLAIN = ("unfinished:starlette", "--factory"), ("unfinished_plain:app",)


KEY = base64.b64encode(bytes(16)).decode()


UPGRADE = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"


CLOSING = "Waiting for connections to close. (CTRL+C to force quit)"


FINISHING = "Waiting for background tasks to complete. (CTRL+C to force quit)"


def begin(server, path):
    """A client whose request has begun to be answered."""
    client = socket.create_connection(server.address, timeout=30)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{UPGRADE if path == '/chat' else ''}\r\n".encode())
    assert client.recv(1000)
    return client


@pytest.mark.parametrize("workers", ["1", "4"])
@pytest.mark.parametrize("app", [STARLETTE, PLAIN], ids=["starlette", "plain"])
def test_shutdown_logs_what_it_waits_for_and_a_second_signal_nothing_more(app, workers):
    with Running(*app, "--port", "0", "--workers", workers, env={"PYTHONDEVMODE": "1"}) as server:
        clients = [begin(server, path) for path in ("/events", "/events", "/chat", "/background", "/deaf")]
        server.send_signal(signal.SIGINT)
        line = server.wait_for("still running")
        server.send_signal(signal.SIGINT)
        assert server.end() == 0
        names = "GET /events (2), GET /background, GET /deaf, WebSocket /chat"
        assert f"5 requests still running: {names}; " in line
        assert line.endswith(" s left, Ctrl-C again to stop now")
        assert server.log.count(CLOSING) == server.log.count("still running") == 1
        for words in ("Traceback", "was destroyed", "GeneratorExit", "RuntimeError", "Warning", "Exception"):
            assert words not in server.log
        for client in clients:
            client.close()


@pytest.mark.parametrize("workers", ["1", "4"])
@pytest.mark.parametrize("app", [STARLETTE, PLAIN], ids=["starlette", "plain"])
def test_timeout_graceful_shutdown_logs_nothing_more(app, workers):
    arguments = ("--port", "0", "--workers", workers, "--timeout-graceful-shutdown", "0.1")
    with Running(*app, *arguments, env={"PYTHONDEVMODE": "1"}) as server:
        clients = [begin(server, path) for path in ("/events", "/chat", "/background", "/deaf")]
        assert server.stop(signal.SIGINT) == 0
        for words in ("Traceback", "was destroyed", "GeneratorExit", "RuntimeError", "Warning", "Exception"):
            assert words not in server.log
        for client in clients:
            client.close()


@pytest.mark.parametrize("workers", ["1", "4"])
def test_shutdown_logs_work_behind_a_response_as_such(workers):
    arguments = ("--port", "0", "--workers", workers, "--timeout-graceful-shutdown", "off")
    with Running(*STARLETTE, *arguments) as server:
        assert get(server.address, "/background") == (200, b"done")
        server.send_signal(signal.SIGINT)
        line = server.wait_for("still running")
        assert line.endswith("1 request still running: GET /background; waiting for ever, Ctrl-C again to stop now")
        assert FINISHING in server.log
        assert CLOSING not in server.log
        server.stop(signal.SIGINT)


@pytest.mark.parametrize("workers", ["2", "4"])
def test_shutdown_logs_a_request_that_blocks_its_worker(workers):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as server:
        client = socket.create_connection(server.address)
        client.sendall(b"GET /block?600 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for("has been blocked for")
        server.send_signal(signal.SIGINT)
        assert "1 request still running: GET /block; " in server.wait_for("still running")
        server.stop(signal.SIGINT)
        client.close()


class End:
    def __init__(self, caplog, patience):
        caplog.set_level("INFO", "pounce.error")
        self._caplog = caplog
        self.loop, self._selector = skipping_loop()
        self.parts = [NONE_IN_FLIGHT]
        self.progress = ShutdownProgress(self.loop, lambda: self.parts)
        self.progress.start(patience)

    def runs(self, *names, connections=1):
        self.parts = [InFlight(Counter(names), connections)]

    def after(self, seconds):
        """The lines that are said in the next so many seconds."""
        self._caplog.clear()
        for _ in range(round(seconds / INTERVAL)):
            self._selector.skip = INTERVAL
            self.loop.turn(0)
        return [record.getMessage() for record in self._caplog.records]


def test_a_quick_shutdown_logs_nothing(caplog):
    end = End(caplog, 30.0)
    end.runs("GET /")
    assert end.after(INTERVAL) == []
    end.parts = []
    assert end.after(30.0) == []


def test_shutdown_logs_again_what_has_changed_but_not_often(caplog):
    end = End(caplog, 30.0)
    end.runs("GET /a", "GET /b", "GET /b")
    said = end.after(2 * INTERVAL)
    assert said == [CLOSING, "3 requests still running: GET /b (2), GET /a; 29 s left, Ctrl-C again to stop now"]
    assert end.after(REPEAT_AFTER + INTERVAL) == []
    end.runs("GET /b")
    assert end.after(INTERVAL) == ["1 request still running: GET /b; 18 s left, Ctrl-C again to stop now"]
    end.runs("GET /c")
    assert end.after(REPEAT_AFTER - INTERVAL) == []
    assert len(end.after(INTERVAL)) == 1
    end.progress.stop()
    end.runs("GET /d")
    assert end.after(REPEAT_AFTER) == []


def test_when_the_connections_are_gone_uvicorns_other_line_is_said(caplog):
    end = End(caplog, None)
    end.runs(connections=2)
    assert end.after(1.0) == [CLOSING, "2 connections still open; waiting for ever, Ctrl-C again to stop now"]
    end.runs("GET /a", connections=0)
    assert end.after(REPEAT_AFTER)[0] == FINISHING


def test_names_are_bounded_and_harmless(caplog):
    end = End(caplog, 30.0)
    end.runs("GET /\x1b[2J", *(f"GET /{number}" for number in range(50)))
    line = end.after(1.0)[1]
    assert "\x1b" not in line
    assert line.count("GET /") == MAX_NAMES
    assert f" and {51 - MAX_NAMES} more; " in line


def test_an_answer_fits_into_one_read_and_loses_nobody():
    names = Counter({f"GET /{'x' * 90}{number}": number + 1 for number in range(100)})
    line = InFlight(names, 7).encode()
    assert len(line) < 4096
    assert line.count(b"\n") == 1
    names_again, connections = InFlight.decode(line)
    assert (names_again.total(), connections) == (names.total(), 7)
    assert InFlight.decode(NONE_IN_FLIGHT.encode()) == NONE_IN_FLIGHT
