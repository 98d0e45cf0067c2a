"""Whatever an application does, and whoever is killed: the others are served, and the log says it once."""

import contextlib
import http.client
import json
import os
import signal
import socket
import time

import pytest

from pounce.supervisor.plan import has_gil
from tests.support.requests import GET
from tests.support.server import Running, ask, get

ERRORS = ("ValueError", "MemoryError", "RecursionError", "SystemExit", "KeyboardInterrupt", "OSError")


KINDS = [("crash:app",), ("crash:with_asyncio", "--factory")]


def single(workers):
    """Is the server one process?"""
    return workers == "1" or not has_gil()


def fails(**where):
    return {"FAILS": json.dumps(where)}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("app", KINDS, ids=["plain", "asyncio"])
def test_an_application_that_fails_is_500_for_its_own_request_and_logged_once(app, workers):
    with Running(*app, "--port", "0", "--workers", workers, "--no-access-log") as server:
        expected = 0
        for place in ("before", "waiting", "between", "after", "background"):
            for error in ERRORS:
                answer = ask(
                    server.address, f"GET /{place}/{error} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
                )
                if place in ("before", "waiting"):
                    assert answer.startswith(b"HTTP/1.1 500 "), (place, error)
                elif place == "between":
                    assert b"hello" in answer
                    assert not answer.endswith(b"0\r\n\r\n"), error  # nobody takes it for the whole
                else:
                    assert answer.endswith(b"hello"), (place, error)
                expected += 1
                server.wait_for("Exception in ASGI application", count=expected)
                assert get(server.address) == (200, b"hello")
        assert server.stop() == (143 if single(workers) else 0)
        assert server.log.count("Exception in ASGI application") == expected
        assert server.log.count(": as asked") >= 5 * (len(ERRORS) - 1)
        for words in ("died", "is being replaced", "never retrieved", "Starting worker"):
            assert words not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("error", ["MemoryError", "OSError"])  # SystemExit: test_exits.py
def test_a_lifespan_that_fails_at_startup_ends_the_server_with_3(error, workers):
    arguments = ("--port", "0", "--workers", workers, "--lifespan", "on")
    with Running("crash:app", *arguments, ready=False, env=fails(startup=error)) as server:
        assert server.end() == 3
        assert server.log.count("Exception in 'lifespan' protocol") == 1
        assert server.log.count("Application startup failed. Exiting.") == 1


@pytest.mark.parametrize("app", KINDS, ids=["plain", "asyncio"])
@pytest.mark.parametrize("error", ["ValueError", "SystemExit"])
def test_a_lifespan_that_fails_later_is_logged_and_its_worker_goes_on(error, app):
    with Running(*app, "--port", "0", "--workers", "2", env=fails(serving=error)) as server:
        server.wait_for("Exception in 'lifespan' protocol", count=2)
        assert get(server.address) == (200, b"hello")
        server.stop()
        assert server.log.count("Exception in 'lifespan' protocol") == 2
        assert "died" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_lifespan_that_fails_at_shutdown_is_logged_and_the_server_ends(workers):
    with Running("crash:app", "--port", "0", "--workers", workers, env=fails(shutdown="SystemExit")) as server:
        server.stop()
        assert server.log.count("Exception in 'lifespan' protocol") == int(workers)
        assert "Finished server process" in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("app", KINDS, ids=["plain", "asyncio"])
def test_timeout_graceful_shutdown_ends_a_lifespan_shutdown_that_hangs(app, workers):
    arguments = ("--port", "0", "--workers", workers, "--timeout-graceful-shutdown", "0.5")
    with Running(*app, *arguments, env=fails(shutdown="hang")) as server:
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 6
        assert server.log.count("Application shutdown has not ended within 0.5 seconds; it is cancelled.") == int(
            workers
        )
        assert "it is abandoned" not in server.log


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("app", KINDS, ids=["plain", "asyncio"])
def test_an_application_that_sends_for_ever_and_to_nobody_costs_no_worker(app, workers):
    arguments = ("--workers", workers, "--no-access-log", "--log-level", "debug", "--timeout-graceful-shutdown", "0")
    with Running(*app, "--port", "0", *arguments) as server:
        with socket.create_connection(server.address) as client:
            client.sendall(GET.replace(b"/ ", b"/endless ", 1))
            client.recv(1000)
        # From now on each `send` raises, and the loop has its turns all the same.
        assert [get(server.address) for _ in range(20)] == [(200, b"hello")] * 20
        assert server.stop() == (143 if single(workers) else 0)
        assert "GET /endless" in server.wait_for("Cancelled: ")


def test_a_generator_that_never_ends_and_notices_nothing_costs_one_worker():
    arguments = ("--port", "0", "--workers", "3", "--no-access-log", "--timeout-graceful-shutdown", "0")
    with Running("crash:app", *arguments) as server:
        with socket.create_connection(server.address) as client:
            client.sendall(GET.replace(b"/ ", b"/generator ", 1))
            server.wait_until_busy(server.address)
        # It looks for the next part, for nobody now, and does not let the loop turn.
        server.wait_for("has been blocked for")
        server.wait_for("crash.py")
        assert [get(server.address) for _ in range(20)] == [(200, b"hello")] * 20
        assert server.log.count("crash.py") < 5  # on a busy machine a sibling may seem blocked too, for a moment
        assert server.stop() == (0 if has_gil() else 143)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_while_the_application_starts(workers, number, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pounce\n"
        "async def app(scope, receive, send):\n"
        "    print('starting', flush=True)\n"
        "    try:\n"
        "        await pounce.sleep(600)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
    )
    with Running("slow:app", "--port", "0", "--workers", workers, cwd=tmp_path, ready=False) as server:
        server.wait_for("starting")
        server.send_signal(number)
        server.wait_for("Shutting down once the application has started. (CTRL+C to force quit)")
        assert server.stop(number) == (143 if number == signal.SIGTERM and single(workers) else 0)
        assert "cleaned up" in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_while_a_response_streams_lets_it_end(workers, tmp_path):
    (tmp_path / "ticks.py").write_text(
        "import pounce\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        for _ in range(10):\n"
        "            await send({'type': 'http.response.body', 'body': b'tick', 'more_body': True})\n"
        "            await pounce.sleep(0.05)\n"
        "        await send({'type': 'http.response.body', 'body': b'end'})\n"
    )
    with Running("ticks:app", "--port", "0", "--workers", workers, cwd=tmp_path) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET)
        answer = client.recv(1000)
        server.send_signal(signal.SIGTERM)
        answer += b"".join(iter(lambda: client.recv(1000), b""))
        assert answer.count(b"tick") == 10
        assert answer.endswith(b"3\r\nend\r\n0\r\n\r\n")
        assert server.end() == (143 if single(workers) else 0)
        client.close()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("path", ["/sleep?600", "/block?600"])
def test_second_sigterm_ends_at_once(path, workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", path.encode() + b" ", 1))
        server.wait_until_busy(server.address)
        server.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down")
        time.sleep(0.2)  # it is draining
        assert server.process.poll() is None
        begun = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.end() == (143 if single(workers) else 0)
        assert time.monotonic() - begun < 3
        assert "Traceback" not in server.log
        client.close()


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
def test_sigterm_to_the_whole_group_loses_no_request():
    """As systemd does it, and a terminal's Ctrl-C: every process gets the signal, in whatever order."""
    with Running("plain:app", "--port", "0", "--workers", "2", "--no-access-log") as server:
        pids = {json.loads(get(server.address, "/who")[1])["pid"] for _ in range(50)}
        blockers = [socket.create_connection(server.address) for _ in range(8)]
        for blocker in blockers:
            blocker.sendall(GET.replace(b"/ ", b"/block?0.5 ", 1))
        server.wait_until_busy(server.address)
        waiting = [socket.create_connection(server.address) for _ in range(20)]
        for client in waiting:
            client.sendall(GET)
        for pid in (*pids, server.process.pid):
            os.kill(pid, signal.SIGTERM)
        for client in waiting:
            client.settimeout(30)
            assert client.recv(1000).endswith(b"hello")
            client.close()
        assert server.end() == 0
        for blocker in blockers:
            blocker.close()


def gone(pid, patience=15.0):
    end = time.monotonic() + patience
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def pids_of(server):
    return {json.loads(get(server.address, "/who")[1])["pid"] for _ in range(50)}


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
@pytest.mark.parametrize("busy", ["", "/sleep?600", "/block?600"])
def test_worker_processes_end_with_their_parent_whatever_they_do(busy):
    arguments = ("--workers", "2", "--timeout-graceful-shutdown", "0.5")
    with Running("plain:app", "--port", "0", *arguments) as server:
        pids = pids_of(server)
        client = socket.create_connection(server.address)
        if busy:
            client.sendall(GET.replace(b"/ ", busy.encode() + b" ", 1))
            server.wait_until_busy(server.address)
        server.process.kill()
        assert all(gone(pid) for pid in pids)
        client.close()


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
def test_timeout_worker_stuck_gives_up_a_stopped_worker_process():
    arguments = ("--workers", "3", "--timeout-worker-stuck", "2", "--no-access-log")
    with Running("plain:app", "--port", "0", *arguments) as server:
        victim = min(pids_of(server))
        os.kill(victim, signal.SIGSTOP)
        server.wait_for("has been blocked for")
        begun = time.monotonic()
        assert [get(server.address) for _ in range(30)] == [(200, b"hello")] * 30
        assert time.monotonic() - begun < 2
        server.wait_for("is given up, blocked for 2.")
        assert gone(victim)
        server.wait_for("Starting worker")
        assert server.stop() == 0


@pytest.mark.skipif(not has_gil(), reason="workers are threads here")
def test_while_a_killed_worker_process_is_away_nobody_waits_for_it(tmp_path):
    (tmp_path / "late.py").write_text(
        "import os, time\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        if os.path.exists('again'):\n"
        "            time.sleep(3)\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.shutdown.complete'})\n"
        "        return\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n"
    )
    with Running("late:app", "--port", "0", "--workers", "2", cwd=tmp_path) as server:
        pids = {int(get(server.address)[1]) for _ in range(50)}
        (tmp_path / "again").touch()
        os.kill(min(pids), signal.SIGKILL)
        server.wait_for("died")
        slowest = 0.0
        for _ in range(30):
            begun = time.monotonic()
            with contextlib.suppress(ConnectionResetError):  # accepted by the one that was killed
                assert get(server.address)[0] == 200
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 1.0
        server.stop()


# Found by reading the code.
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no file descriptors of processes")
def test_a_killed_worker_process_is_noticed_though_its_child_lives_on(tmp_path):
    (tmp_path / "forking.py").write_text(
        "import os, time\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return\n"
        "    if scope['path'] == '/fork':\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            time.sleep(60)\n"
        "            os._exit(0)\n"
        "        body = b'%d %d' % (os.getpid(), child)\n"
        "    else:\n"
        "        body = b'%d' % os.getpid()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    arguments = ("--workers", "2", "--worker-kind", "process", "--lifespan", "off", "--app-dir", str(tmp_path))
    with Running("forking:app", "--port", "0", *arguments) as server:
        # By the length of the answer, not by the end of the connection, which the child has as well.
        connection = http.client.HTTPConnection(*server.address)
        connection.request("GET", "/fork")
        worker, child = map(int, connection.getresponse().read().split())
        connection.close()
        try:
            os.kill(worker, signal.SIGKILL)
            server.wait_for(f"(process {worker}) died")
            for _ in range(20):
                assert int(get(server.address)[1]) != worker
            server.process.terminate()
            assert server.process.wait(30) == 0
        finally:
            os.kill(child, signal.SIGKILL)
