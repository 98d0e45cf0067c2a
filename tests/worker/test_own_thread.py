"""The only worker is on the thread that runs the server, as under uvicorn."""

import asyncio
import signal
import socket
import threading

import pytest

import pounce
from pounce.testing import TestServer
from tests.support.server import Running, get

APP = """
import asyncio, os, signal, sys, threading, time
print("imported on", threading.current_thread().name, flush=True)
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        START
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown on", threading.current_thread().name, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    REQUEST
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": threading.current_thread().name.encode()})
"""


def write(folder, start="pass", request="pass"):
    for word, code in (("START", start), ("REQUEST", request)):
        lines = code.splitlines()
        indent = "        " if word == "START" else "    "
        text = ("\n" + indent).join(lines)
        (folder / "made.py").write_text(
            (APP if word == "START" else (folder / "made.py").read_text()).replace(word, text)
        )
    return folder


def test_import_lifespan_and_requests_are_on_the_main_thread(tmp_path):
    with Running("made:app", "--port", "0", cwd=write(tmp_path)) as server:
        assert get(server.address) == (200, b"MainThread")
        assert server.stop() == 143
        assert "imported on MainThread" in server.log
        assert "shutdown on MainThread" in server.log


def test_timeout_worker_stuck_gives_the_only_worker_a_thread_of_its_own(tmp_path):
    with Running("made:app", "--port", "0", "--timeout-worker-stuck", "60", cwd=write(tmp_path)) as server:
        assert get(server.address) == (200, b"pounce-worker-1")


@pytest.mark.parametrize(
    "install",
    [
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard', flush=True))",
        "asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: print('heard', flush=True))",
    ],
    ids=["signal.signal", "add_signal_handler"],
)
def test_an_application_may_hear_signals(tmp_path, install):
    with Running("made:app", "--port", "0", cwd=write(tmp_path, start=install)) as server:
        for count in (1, 2):
            server.send_signal(signal.SIGUSR1)
            server.wait_for("heard", count=count)
        assert get(server.address)[0] == 200
        assert server.stop() == 143  # ours still works beside it
        assert "shutdown on MainThread" in server.log


def test_a_signal_ends_the_server_after_the_application_has_taken_its_own_handler_away(tmp_path):
    start = (
        "loop = asyncio.get_running_loop()\n"
        "loop.add_signal_handler(signal.SIGUSR1, print)\n"
        "loop.remove_signal_handler(signal.SIGUSR1)\n"
        "print('wakeup', signal.set_wakeup_fd(-1) != -1, flush=True)"
    )
    with Running("made:app", "--port", "0", cwd=write(tmp_path, start=start), ready=False) as server:
        assert server.wait_for("wakeup") == "wakeup True"


@pytest.mark.parametrize("how", ["signal.signal(signal.SIGTERM, {})", "loop.add_signal_handler(signal.SIGTERM, {})"])
def test_the_applications_own_handler_wins(tmp_path, how):
    start = "loop = asyncio.get_running_loop()\n" + how.format("lambda *_: print('mine', flush=True)")
    with Running("made:app", "--port", "0", cwd=write(tmp_path, start=start)) as server:
        server.send_signal(signal.SIGTERM)
        server.wait_for("mine")
        assert get(server.address)[0] == 200
        assert server.stop(signal.SIGINT) == 0


def test_second_sigint_interrupts_what_blocks_the_thread(tmp_path):
    request = "while True: time.sleep(0.01)"
    with Running("made:app", "--port", "0", cwd=write(tmp_path, request=request)) as server:
        client = socket.create_connection(server.address)
        client.sendall(b"GET /it HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_until_busy(server.address)
        server.send_signal(signal.SIGINT)
        server.wait_for("Shutting down once GET /it returns; it blocks the server's thread (CTRL+C to interrupt it)")
        server.send_signal(signal.SIGINT)
        assert server.end() == 0
        assert "Interrupted: app (made.py:" in server.log
        assert "Traceback" not in server.log
        client.close()


def test_timeout_graceful_shutdown_interrupts_what_blocks_the_thread(tmp_path):
    request = "while True: time.sleep(0.01)"
    arguments = ("--port", "0", "--timeout-graceful-shutdown", "0.1")
    with Running("made:app", *arguments, cwd=write(tmp_path, request=request)) as server:
        client = socket.create_connection(server.address)
        client.sendall(b"GET /it HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_until_busy(server.address)
        assert server.stop() == 143
        assert "Traceback" not in server.log
        client.close()


def test_log_level_debug_names_a_blocked_request(tmp_path):
    request = "end = time.monotonic() + 2\nwhile time.monotonic() < end: time.sleep(0.01)"
    with Running("made:app", "--port", "0", "--log-level", "debug", cwd=write(tmp_path, request=request)) as server:
        assert get(server.address, "/slow")[0] == 200
        server.wait_for("has been blocked for")
        server.wait_for("responds again")


async def plain(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": threading.current_thread().name.encode()})


def test_on_another_thread_it_is_that_one():
    with TestServer(plain) as server:
        assert get((server.host, server.port)) == (200, b"pounce-test-server")


def test_inside_a_running_loop_the_worker_has_a_thread_of_its_own():
    """As in a notebook: a second asyncio loop cannot run on the thread of the first."""
    names = []

    async def main():
        loop = asyncio.get_running_loop()
        server = pounce.Server(pounce.Config(plain, port=0, log_config=None))

        def client():
            server.wait_started(20)
            names.append(get(server.addresses[0]))
            server.should_exit = True

        thread = threading.Thread(target=client)
        thread.start()
        server.run()
        thread.join()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    asyncio.run(main())
    assert names == [(200, b"pounce-worker-1")]


def test_a_worker_whose_loop_has_failed_is_replaced():
    """By one on a thread, because it drains on its own for a while yet."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/break":
            broken = True

            def fail():
                nonlocal broken
                if broken:
                    broken = False
                    raise RuntimeError("a defect of the server")

            running.server._loop.call_soon(fail)
        await plain(scope, receive, send)

    with TestServer(app) as running:
        address = running.host, running.port
        assert get(address) == (200, b"pounce-test-server")
        assert get(address, "/break")[0] == 200
        while True:
            status, name = get(address)
            assert status == 200
            if name == b"pounce-worker-1":
                break


CONTEXT = """
import contextvars, decimal
from decimal import Decimal
decimal.getcontext().prec = 50
var = contextvars.ContextVar("var", default="lost")
var.set("set at import")
seen = []
async def app(scope, receive, send):
    text = f"{var.get()} {len(str(Decimal(1) / 3)) - 2}"
    if scope["type"] == "lifespan":
        await receive()
        seen.append(text)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{text}; {set(seen)}".encode()})
"""


@pytest.mark.parametrize("arguments", [(), ("--threads", "2"), ("--threads", "2", "--app-copies", "worker")])
def test_what_the_import_has_set_in_its_context_is_there_in_every_worker(tmp_path, arguments):
    (tmp_path / "made.py").write_text(CONTEXT)
    with Running("made:app", "--port", "0", *arguments, cwd=tmp_path) as server:
        for _ in range(8):
            assert get(server.address) == (200, b"set at import 50; {'set at import 50'}")


def test_the_caller_of_run_keeps_its_own_context(tmp_path):
    (tmp_path / "main.py").write_text(
        "import contextvars, os, pounce, signal\n"
        "var = contextvars.ContextVar('var', default='mine')\n"
        "async def made(scope, receive, send):\n"
        "    assert scope['type'] == 'lifespan'\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.shutdown.complete'})\n"
        "def factory():\n"
        "    var.set('the server\\'s')\n"
        "    return made\n"
        "pounce.run(factory, factory=True, port=0)\n"
        "print('context:', var.get(), contextvars.copy_context().get(var))\n"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "context: mine None" in done.stdout, done.stdout + done.stderr
