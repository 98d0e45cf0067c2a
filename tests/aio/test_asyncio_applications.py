"""Applications that stand on asyncio: what they do with it works as on any loop, on threads and in processes."""

import signal
import socket
import subprocess
import threading

import pytest

from tests.apps import aio
from tests.support.requirements import tool
from tests.support.server import Running, ask, get

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


FAILING = {"/broken", "/exits", "/exits_at_once", "/cancelled_by_nobody", "/awaits_what_was_cancelled"}


ENDLESS = {"/stuck", "/stubborn", "/busy_executor"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with a certificate for localhost."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem", "-out",
         folder / "cert.pem"],
        check=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=["1", "4"], ids=["1 worker", "4 workers"])
def server(request, certificate):
    environment = {"POUNCE_TEST_CERTIFICATE": str(certificate)}
    with Running("aio:app", "--port", "0", "--workers", request.param, env=environment) as server:
        yield server


@pytest.mark.parametrize("path", sorted(set(aio.things) - FAILING - ENDLESS))
def test_what_applications_do_with_asyncio(server, path):
    failed = []

    def client():
        for _ in range(5):
            answer = get(server.address, path)
            if answer != (200, b"ok"):
                failed.append(answer)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert failed == [], server.log


@pytest.mark.parametrize("path", sorted(FAILING))
def test_any_exception_of_an_asyncio_handler_is_500_and_ends_its_request_only(server, path):
    for _ in range(3):
        assert get(server.address, path)[0] == 500
    assert get(server.address, "/sleep") == (200, b"ok")
    assert "is being replaced" not in server.log


@pytest.mark.parametrize("workers", ["1", "3"])
def test_sigterm_closes_everything_of_asyncio_in_order(workers):
    with Running("aio:app", "--port", "0", "--workers", workers) as server:
        get(server.address, "/sleep")
        server.stop()
        assert server.log.count("background cancelled: True") == int(workers)
        assert server.log.count("generator closed") == int(workers)
        assert "Traceback" not in server.log
        assert "never awaited" not in server.log
        assert "was destroyed but it is pending" not in server.log


def test_timeout_graceful_shutdown_cancels_an_asyncio_request_and_names_its_line():
    with Running("aio:app", "--port", "0", "--timeout-graceful-shutdown", "1") as server:
        client = socket.create_connection(server.address)
        client.sendall(GET % b"/stuck")
        server.wait_until_busy(server.address)
        assert server.stop() == 143
        assert "Cancelled: GET /stuck in stuck (" in server.log or "Cancelled: GET /stuck in sleep (" in server.log
        assert b" 503 " in client.recv(1000)
        client.close()


def test_timeout_graceful_shutdown_abandons_a_request_that_ignores_its_cancellation():
    with Running("aio:app", "--port", "0", "--timeout-graceful-shutdown", "0") as server:
        client = socket.create_connection(server.address)
        client.sendall(GET % b"/stubborn")
        server.wait_until_busy(server.address)
        assert server.stop(signal.SIGINT) == 0
        assert "ignores its cancellation" in server.log
        client.close()


def test_timeout_graceful_shutdown_abandons_a_busy_executor():
    with Running("aio:app", "--port", "0", "--timeout-graceful-shutdown", "0") as server:
        client = socket.create_connection(server.address)
        client.sendall(GET % b"/busy_executor")
        server.wait_until_busy(server.address)
        assert server.stop(signal.SIGINT) == 0
        client.close()


CANCELS = """
import asyncio, sys

def cancel_all_others():
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()

async def in_the_background():
    try:
        await asyncio.sleep(1e6)
    finally:
        cancel_all_others()

async def generator():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        sys.stdout.write("generator closed\\n")

kept = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        kept.append(asyncio.create_task(asyncio.sleep(1e6)))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        cancel_all_others()
        await asyncio.sleep(0.1)
        kept.append(asyncio.create_task(in_the_background()))
        kept.append(generator())
        await anext(kept[-1])
        sys.stdout.write("cleaned up\\n")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/waits":
        await asyncio.sleep(1e6)
    if scope["path"] == "/cancels":
        cancel_all_others()
    if scope["path"] == "/stops":
        asyncio.get_running_loop().stop()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"o", "more_body": True})
    if scope["path"] == "/streams":
        await asyncio.sleep(1e6)
    await send({"type": "http.response.body", "body": b"k"})
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_cleanup_that_cancels_all_other_tasks_runs_to_its_end(tmp_path, workers):
    (tmp_path / "cancels.py").write_text(CANCELS)
    with Running("cancels:app", "--port", "0", "--workers", workers, cwd=tmp_path) as server:
        assert get(server.address)[0] == 200
        server.stop()
        assert server.log.count("cleaned up") == int(workers)
        assert server.log.count("generator closed") == int(workers)
        assert "Traceback" not in server.log


def test_a_request_that_cancels_all_other_tasks_ends_the_other_requests_only(tmp_path):
    (tmp_path / "cancels.py").write_text(CANCELS)
    with Running("cancels:app", "--port", "0", "--lifespan", "off", cwd=tmp_path) as server:
        waits, streams = (socket.create_connection(server.address, 30) for _ in range(2))
        streams.sendall(GET % b"/streams")
        assert b" 200 " in streams.recv(1000)
        waits.sendall(GET % b"/waits")
        server.wait_until_busy(server.address)
        assert get(server.address, "/cancels")[0] == 200
        assert b" 503 " in waits.recv(1000)
        assert b"0\r\n\r\n" not in b"".join(iter(lambda: streams.recv(1000), b""))  # cut, and not as if complete
        assert get(server.address)[0] == 200
        assert "is being replaced" not in server.log
        waits.close()
        streams.close()


def test_a_lifespan_that_fails_by_a_task_it_has_cancelled_says_so(tmp_path):
    (tmp_path / "forgets.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    background = asyncio.create_task(asyncio.sleep(1e6))\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive()\n"
        "    background.cancel()\n"
        "    await background\n"
    )
    with Running("forgets:app", "--port", "0", cwd=tmp_path) as server:
        server.stop()
        assert "Exception in 'lifespan' protocol" in server.log
        assert "await background" in server.log


def test_a_request_that_stops_the_loop_stops_nothing(tmp_path):
    (tmp_path / "cancels.py").write_text(CANCELS)
    with Running("cancels:app", "--port", "0", cwd=tmp_path) as server:
        for _ in range(3):
            assert get(server.address, "/stops")[0] == 200
            assert get(server.address)[0] == 200
        server.stop()
        assert "cleaned up" in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("end", ["raise ZeroDivisionError", "return None"])
def test_a_task_factory_that_fails_fails_its_requests_only(end, tmp_path):
    (tmp_path / "factory.py").write_text(
        "import asyncio\n"
        "def factory(loop, coroutine, **more):\n"
        "    coroutine.close()\n"
        f"    {end}\n"
        "async def app(scope, receive, send):\n"
        "    asyncio.get_running_loop().set_task_factory(factory)\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    with Running("factory:app", "--port", "0", "--lifespan", "off", cwd=tmp_path) as server:
        assert [get(server.address)[0] for _ in range(3)] == [200, 500, 500]
        server.stop()
        assert server.log.count("Exception in ASGI application") == 2
        assert "is being replaced" not in server.log


@pytest.mark.parametrize("option", [[], ["--cancel-on-disconnect"]], ids=["told", "cancelled"])
def test_cancel_on_disconnect_under_asyncio(option, tmp_path):
    (tmp_path / "gone.py").write_text(
        "import asyncio, sys\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
        "    try:\n"
        "        await receive()\n"
        "        sys.stdout.write('begun\\n')\n"
        "        sys.stdout.write((await receive())['type'] + '\\n')\n"
        "        await asyncio.sleep(0.2)\n"
        "        sys.stdout.write('ended by itself\\n')\n"
        "    except asyncio.CancelledError:\n"
        "        sys.stdout.write('cancelled\\n')\n"
        "        raise\n"
    )
    with Running("gone:app", "--port", "0", *option, cwd=tmp_path) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET % b"/")
        server.wait_for("begun")
        client.close()
        server.wait_for("cancelled" if option else "ended by itself")
        server.stop()
        assert ("http.disconnect" in server.log) is not bool(option)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "3"])
def test_asyncio_may_be_imported_in_the_middle_of_a_request(workers):
    with Running("late:app", "--port", "0", "--workers", workers) as server:
        assert get(server.address)[1] == b"plain"
        waiting = [socket.create_connection(server.address) for _ in range(6)]
        for client in waiting:
            client.sendall(GET % b"/waits?1")
        receiving = [socket.create_connection(server.address) for _ in range(6)]
        for client in receiving:
            client.sendall(b"POST /receives HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        server.wait_until_busy(server.address)
        for _ in range(30):  # in most workers, where they are processes
            assert get(server.address, "/late") == (200, b"came late"), server.log
        for client in waiting:
            client.settimeout(30)
            assert client.recv(1000).endswith((b"carried on", b"plain"))
        for client in receiving:
            client.sendall(b"def")
            client.settimeout(30)
            assert client.recv(1000).endswith(b"abcdef")
        for client in waiting + receiving:
            client.close()
        # On one connection, and so in one worker: where workers are processes, another may not have imported it.
        both = GET % b"/late" + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert ask(server.address, both).endswith(b"asyncio")
        server.stop()
        assert "Traceback" not in server.log


def test_asyncio_may_be_imported_by_a_helper_thread():
    with Running("late:app", "--port", "0") as server:
        assert get(server.address, "/thread") == (200, b"in a thread")
        assert get(server.address, "/late") == (200, b"came late")
        server.stop()
        assert "Traceback" not in server.log


def test_the_first_import_on_many_workers_at_once():
    with Running("late:app", "--port", "0", "--workers", "4") as server:
        clients = [socket.create_connection(server.address) for _ in range(24)]
        for client in clients:
            client.sendall(GET % b"/late")
        for client in clients:
            client.settimeout(30)
            assert client.recv(1000).endswith(b"came late"), server.log
            client.close()
        server.stop()
        assert "Traceback" not in server.log
