"""asyncio's objects used on another thread than their loop's: the loop wakes up at once, and the log names the line.

And `sleep(0)` of either kind gives the loop its turn.
"""

import asyncio
import itertools
import signal
import socket
import threading
import time

import pytest

from pounce.aio import event_loop as asyncio_loop
from tests.support.bridge_suite import BridgeLoop
from tests.support.server import Running, get


class Elsewhere:
    """A worker's asyncio loop on a thread of its own."""

    def __enter__(self):
        self.loop = BridgeLoop()
        self.end = self.loop.create_future()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.end,), daemon=True)
        self.thread.start()
        return self

    def wait_until_it_sleeps(self):
        worker_loop = self.loop._selector._loop
        until = time.monotonic() + 30
        while worker_loop.busy_since != float("inf"):
            assert time.monotonic() < until
            time.sleep(0.001)

    def join(self):
        self.thread.join(30)
        assert not self.thread.is_alive(), "the loop still sleeps"

    def __exit__(self, *_):
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(lambda: self.end.done() or self.end.set_result(None))
        self.join()
        self.loop.close()


@pytest.fixture(autouse=True)
def _not_told_yet(monkeypatch):
    monkeypatch.setattr(asyncio_loop, "_logged", threading.Lock())


@pytest.mark.parametrize("how", ["set_result", "call_soon", "call_later", "call_at"])
def test_a_sleeping_loop_is_woken_by_another_thread(how, caplog):
    with Elsewhere() as elsewhere:
        loop, end = elsewhere.loop, elsewhere.end
        elsewhere.wait_until_it_sleeps()
        if how == "set_result":
            end.set_result(None)
        elif how == "call_soon":
            loop.call_soon(end.set_result, None)
        elif how == "call_later":
            loop.call_later(0.001, end.set_result, None)
        else:
            loop.call_at(loop.time(), end.set_result, None)
        elsewhere.join()
    (record,) = caplog.records
    assert __file__ in record.getMessage()
    assert "test_a_sleeping_loop_is_woken" in record.getMessage()
    assert "call_soon_threadsafe" in record.getMessage()


def test_thread_safe_calls_are_not_logged(caplog):
    with Elsewhere() as elsewhere:
        called = threading.Event()
        elsewhere.loop.call_soon_threadsafe(called.set)
        assert called.wait(30)
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "x"), elsewhere.loop).result(30) == "x"
    assert not caplog.records


def test_a_timer_may_be_cancelled_where_it_was_set():
    with Elsewhere() as elsewhere:
        called = []
        timer = elsewhere.loop.call_later(0.001, called.append, "cancelled")
        timer.cancel()
        at_once = elsewhere.loop.call_later(1e-9, called.append, "at once")
        elsewhere.loop.call_later(0.05, elsewhere.end.set_result, None)
        elsewhere.join()
    assert called == ["at once"]
    assert timer.cancelled()
    assert not at_once.cancelled()


def test_timers_set_by_many_threads_are_all_called_in_their_order():
    with Elsewhere() as elsewhere:
        loop, called = elsewhere.loop, []
        start, skipped = loop.time(), 0

        def skip(seconds):
            nonlocal skipped
            skipped = seconds

        def of_the_loop():  # changes the same heap meanwhile
            if not skipped:
                for _ in range(20):
                    loop.call_later(0.0001, int)
                loop.call_later(0.0001, of_the_loop)

        loop.time = lambda: time.monotonic() + skipped
        loop.call_soon_threadsafe(of_the_loop)
        begin = threading.Barrier(4)

        def set_timers(offset):
            begin.wait(30)
            for n in range(1000):
                when = start + 100 + (n * 7919 % 1000 + offset / 4) / 1000
                loop.call_at(when, called.append, when)

        threads = [threading.Thread(target=set_timers, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loop.call_at(start + 102, elsewhere.end.set_result, None)
        assert not called
        loop.call_soon_threadsafe(skip, 102)
        elsewhere.join()
    assert len(called) == 4000
    assert all(a <= b for a, b in itertools.pairwise(called))


def test_debug_mode_raises_for_calls_from_other_threads():
    with Elsewhere() as elsewhere:
        elsewhere.wait_until_it_sleeps()
        elsewhere.loop.set_debug(True)
        for call in (elsewhere.loop.call_soon, lambda f: elsewhere.loop.call_later(1, f)):
            with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                call(int)
        elsewhere.loop.set_debug(False)


PROGRAM = """
import asyncio, threading, time
import pounce

spinning = True

def produce(queue, waiting):
    waiting.wait()
    queue.put_nowait("token")

async def tokens():
    queue, waiting = asyncio.Queue(), threading.Event()
    thread = threading.Thread(target=produce, args=(queue, waiting))
    thread.start()
    asyncio.get_running_loop().call_soon(waiting.set)  # when this coroutine waits
    assert await queue.get() == "token"
    thread.join()

async def app(scope, receive, send):
    global spinning
    path = scope.get("path")
    if path == "/tokens":
        await tokens()
    elif path == "/spins":
        while spinning:
            await asyncio.sleep(0)
    elif path == "/spins_with_pounce":
        while spinning:
            await pounce.sleep(0)
    elif path == "/ends":
        spinning = False
    elif path == "/slow":
        time.sleep(0.15)
    elif path == "/slow_and_waits":
        time.sleep(0.15)
        await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})
"""


PLAIN = PROGRAM.replace("import asyncio, threading", "import threading")


@pytest.fixture
def program(tmp_path):
    (tmp_path / "threaded.py").write_text(PROGRAM)
    (tmp_path / "plain.py").write_text(PLAIN)
    return tmp_path


def running(program, app, *options, **more):
    return Running(f"{app}:app", "--port", "0", "--lifespan", "off", *options, cwd=program, **more)


def test_a_call_from_another_thread_is_logged_once_with_its_line(program):
    with running(program, "threaded") as server:
        assert [get(server.address, "/tokens") for _ in range(3)] == [(200, b"ok")] * 3
        server.stop()
        line = PROGRAM.splitlines().index('    queue.put_nowait("token")') + 1
        assert server.log.count("belongs to the event loop of another thread") == 1
        assert f"{program}/threaded.py:{line} (produce), on thread" in server.log


@pytest.mark.parametrize("spins", ["plain:/spins_with_pounce", "threaded:/spins_with_pounce", "threaded:/spins"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sleep_of_zero_gives_the_loop_its_turn(program, spins, workers):
    app, path = spins.split(":")
    with running(program, app, "--workers", workers, "--timeout-graceful-shutdown", "0") as server:
        # As many as it takes for each worker to have one, and more: the sockets' queues are chosen by the kernel.
        clients = [socket.create_connection(server.address, 30) for _ in range(8)]
        for client in clients:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        server.wait_until_busy(server.address)
        for _ in range(4):
            assert get(server.address) == (200, b"ok")
        if workers == "1":
            assert get(server.address, "/ends") == (200, b"ok")
            assert all(b" 200 " in client.recv(1000) for client in clients)
        assert server.stop(signal.SIGINT) == 0
        for client in clients:
            client.close()


@pytest.mark.parametrize("path", ["/slow", "/slow_and_waits"])
def test_debug_mode_logs_a_slow_first_step(program, path):
    with running(program, "threaded", env={"PYTHONASYNCIODEBUG": "1"}) as server:
        assert get(server.address) == (200, b"ok")
        assert "Executing" not in server.log
        assert get(server.address, path) == (200, b"ok")
        server.stop()
        assert server.log.count("Executing <Task ") == 1
        assert " took 0." in server.log
