"""How a worker's asyncio loop is closed: generators and helper threads end within a bounded time, whatever class tasks
have."""

import signal

import pytest

from tests.support.server import Running, get

PYTHON_TASKS = """
import asyncio

# As nest_asyncio does. From 3.14 on asyncio.current_task knows none of these tasks, and asyncio.timeout refuses them.
asyncio.Task = asyncio.tasks.Task = asyncio.tasks._CTask = asyncio.tasks._PyTask
asyncio.Future = asyncio.futures.Future = asyncio.futures._CFuture = asyncio.futures._PyFuture
"""


LEFT = """
import asyncio, time

kept = []

async def closes():
    try:
        yield
    finally:
        await asyncio.sleep(0)
        print("generator closed", flush=True)

async def waits():
    try:
        yield
    finally:
        try:
            await asyncio.sleep(600)
        finally:
            print("generator cancelled", flush=True)

async def refuses():
    try:
        yield
    finally:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                print("cancellation refused", flush=True)

def writes():
    time.sleep(0.3)
    print("written", flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        asyncio.get_running_loop().run_in_executor(None, writes)
        await send({"type": "lifespan.shutdown.complete"})
        return
    generator = {"/": closes, "/waits": waits, "/refuses": refuses}[scope["path"]]()
    kept.append(generator)
    await anext(generator)
    assert await asyncio.to_thread(abs, -1) == 1
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture(params=["", PYTHON_TASKS], ids=["stock tasks", "tasks in Python"])
def left(request, tmp_path):
    (tmp_path / "left.py").write_text(request.param + LEFT)
    return lambda *options: Running("left:app", "--port", "0", *options, cwd=tmp_path)


@pytest.mark.parametrize("workers", ["1", "3"])
def test_asynchronous_generators_and_helper_threads_are_closed(workers, left):
    with left("--workers", workers) as server:
        for _ in range(6):
            assert get(server.address) == (200, b"ok"), server.log
        server.stop()
        assert server.log.count("generator closed") == 6
        assert server.log.count("written") == int(workers)
        for trouble in ("Traceback", "CRITICAL", "abandoned", "destroyed"):
            assert trouble not in server.log


@pytest.mark.parametrize("path", ["/waits", "/refuses"])
def test_an_asynchronous_generator_that_does_not_close_is_abandoned(path, left):
    with left() as server:
        assert get(server.address, path) == (200, b"ok"), server.log
        assert server.stop(signal.SIGINT) == 0
        assert "Asynchronous generators have not closed within 1 seconds; they are abandoned." in server.log
        assert ("generator cancelled" if path == "/waits" else "cancellation refused") in server.log
        for trouble in ("Traceback", "CRITICAL", "destroyed"):
            assert trouble not in server.log
