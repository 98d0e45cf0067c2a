"""WebSockets with real clients and frameworks: `websockets`, Chromium, FastAPI, Starlette."""

import contextlib
import json
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.requirements import missing
from tests.support.server import Running
from tests.support.websockets import handshake

ROOT = Path(__file__).parents[2]
client = pytest.importorskip("websockets.sync.client", reason="needs websockets")
exceptions = pytest.importorskip("websockets.exceptions")

ENDED = (0, 143)
"""Exit codes of an orderly end: of a supervisor of worker processes, and of one process, which ends by the signal as
uvicorn does."""


@pytest.fixture(params=["1", "4"], ids=["1 worker", "4 workers"], scope="module")
def server(request):
    pytest.importorskip("fastapi", reason="fastapi has no wheel for this interpreter")
    with Running("sockets:app", "--port", "0", "--workers", request.param, "--ws-max-size", "3000000") as server:
        yield server
        assert server.stop() in ENDED


@contextlib.contextmanager
def opened(server, path, **options):
    with client.connect(server.url.replace("http", "ws") + path, open_timeout=30, **options) as connection:
        yield connection


def test_fastapi_websockets_have_their_own_path_parameters_query_and_subprotocol(server):
    with opened(server, "/items/7?token=t", subprotocols=["x", "chat"]) as one, opened(server, "/items/8") as two:
        assert (one.subprotocol, two.subprotocol) == ("chat", None)
        for number in range(20):
            for connection, item, token in ((one, 7, "t"), (two, 8, None)):
                connection.send(json.dumps({"number": number}))
                answer = json.loads(connection.recv(timeout=30))
                assert (answer["item"], answer["token"], answer["number"]) == (item, token, number)


@pytest.mark.parametrize(
    ("path", "status"), [("/refused", 403), ("/denied", 402), ("/nowhere", 403), ("/items/1?token=wrong", 403)]
)
def test_handshake_refused_by_the_framework_is_403_or_its_denial_response(server, path, status):
    with pytest.raises(exceptions.InvalidStatus) as caught, opened(server, path):
        pass
    assert caught.value.response.status_code == status
    if status == 402:
        assert caught.value.response.body == b"pay first"


def test_close_code_and_reason_reach_the_other_side_and_an_error_is_1011(server):
    with opened(server, "/items/1") as connection:
        connection.close(3456, "enough")
    end = time.monotonic() + 30
    while [3456, "enough"] not in httpx.get(server.url + "/seen").json():
        assert time.monotonic() < end
    with opened(server, "/echo") as connection:
        connection.send("leave")
        assert connection.recv(timeout=30) == "leave"
        with pytest.raises(exceptions.ConnectionClosed) as caught:
            connection.recv(timeout=30)
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "left")
    with opened(server, "/fails") as connection, pytest.raises(exceptions.ConnectionClosed) as caught:
        connection.recv(timeout=30)
    assert caught.value.rcvd.code == 1011


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_all_sizes_are_echoed_and_ws_max_size_closes_1009(server, compression):
    with opened(server, "/bytes", compression=compression, max_size=None) as connection:
        assert bool(connection.protocol.extensions) == bool(compression)
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            data = bytes(place * 31 % 251 for place in range(size))
            connection.send(data)
            assert connection.recv(timeout=60) == data[::-1]
        connection.send([b"one ", b"two ", b"three"])
        assert connection.recv(timeout=30) == b"one two three"[::-1]
        connection.ping().wait(30)
        with pytest.raises(exceptions.ConnectionClosed) as caught:
            connection.send(bytes(3_000_001))
            connection.recv(timeout=30)
        assert caught.value.rcvd.code == 1009


@pytest.mark.parametrize("workers", ["1", "3"])
def test_sigterm_closes_every_websocket_with_1012(workers):
    pytest.importorskip("fastapi", reason="fastapi has no wheel for this interpreter")
    ends = []
    with Running("sockets:app", "--port", "0", "--workers", workers, "--timeout-graceful-shutdown", "20") as server:

        def stay():
            with opened(server, "/echo") as connection:
                connection.send("here")
                connection.recv(timeout=30)
                there.release()
                try:
                    connection.recv(timeout=60)
                except exceptions.ConnectionClosed as error:
                    ends.append(error.rcvd and error.rcvd.code)

        there = threading.Semaphore(0)
        threads = [threading.Thread(target=stay) for _ in range(30)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert there.acquire(timeout=60)
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) in ENDED
        for thread in threads:
            thread.join(30)
        assert ends == [1012] * 30
        assert time.monotonic() - began < 15
        assert "Traceback" not in server.log


def test_ws_websockets_of_uvicorn_is_accepted_with_a_line_in_the_log():
    with Running("sockets:app", "--port", "0", "--ws", "websockets", "--ws-per-message-deflate", "false") as server:
        assert "--ws websockets: WebSocket is spoken through wsproto here." in server.log
        with opened(server, "/echo") as connection:
            assert not connection.protocol.extensions
        found = re.search(r'"WebSocket /echo" \[accepted\]', server.log)
        assert found
        assert server.stop() in ENDED


def test_ws_ping_timeout_ends_a_client_that_is_silent_without_a_fin_with_1011():
    """As where the client's machine has lost its network."""
    with Running(
        "sockets:app", "--port", "0", "--ws-ping-interval", "0.3", "--ws-ping-timeout", "0.3", "--log-level", "trace"
    ) as server:
        with socket.create_connection(server.address) as silent:
            silent.sendall(handshake(path="/items/1"))
            assert silent.recv(1000).startswith(b"HTTP/1.1 101 ")
            end = time.monotonic() + 30
            while [1011, "keepalive ping timeout"] not in httpx.get(server.url + "/seen").json():
                assert time.monotonic() < end
        assert server.stop() in ENDED


def test_chromium_tabs_chat_across_worker_threads_and_are_closed_with_1012(browser):
    from pounce.supervisor.plan import has_gil

    workers = "1" if has_gil() else "4"
    with Running("examples.chat:app", "--port", "0", "--workers", workers, cwd=ROOT) as server:
        tabs = [browser.tab(server.url) for _ in range(4)]
        log = "document.querySelector('#log').textContent"
        threads = {browser.wait(tab, log, "You are on").split()[-1] for tab in tabs}
        assert len(threads) <= int(workers)
        says = "document.querySelector('input').value = '{}'; document.querySelector('form').requestSubmit()"
        for number, tab in enumerate(tabs):
            browser.run(tab, says.format(f"grüße {number}"))
            for other in tabs:
                browser.wait(other, log, f"grüße {number}")
        assert server.stop() in ENDED  # the browser answers the 1012
        assert "Traceback" not in server.log
        for tab in tabs:
            browser.wait(tab, log, "(closed: 1012")


def test_a_missing_tool_is_named_with_its_debian_package():
    with pytest.raises(BaseException, match="chromium-driver"):
        missing("chromedriver")
