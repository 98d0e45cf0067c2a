"""The helper threads that libraries start for a worker: used again by the next request, ended with the worker."""

import threading

import httpx
import pytest

from tests.support.requirements import library
from tests.support.server import Running

BY = {
    "anyio": "await anyio.to_thread.run_sync(work)",
    "asyncio": "await asyncio.to_thread(work)",
    "executor": "await asyncio.get_running_loop().run_in_executor(None, work)",
    "asgiref": "await asgiref.sync.sync_to_async(work, thread_sensitive=True)()",
    "asgiref apart": "await asgiref.sync.sync_to_async(work, thread_sensitive=False)()",
    "pounce": "await pounce.to_thread(work)",
}


NEEDS = {"anyio": "import anyio", "asyncio": "import asyncio", "executor": "import asyncio", "pounce": "import pounce"}


PROGRAM = """
{imports}
import threading

threads = {{}}
lock = threading.Lock()

def work():
    with lock:
        threads.setdefault(threading.current_thread(), None)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    {late}
    {work}
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": b"%d" % len(threads)}})
"""


def running(tmp_path, by, late, *options):
    imports = NEEDS.get(by, "import asgiref.sync")
    (tmp_path / "helped.py").write_text(
        PROGRAM.format(imports="" if late else imports, late=imports if late else "", work=BY[by])
    )
    return Running("helped:app", "--port", "0", *options, cwd=tmp_path)


@pytest.mark.parametrize("late", [False, True], ids=["", "imported late"])
@pytest.mark.parametrize("by", BY)
def test_sequential_requests_use_one_helper_thread(by, late, tmp_path):
    library("anyio", "asgiref")
    with running(tmp_path, by, late) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(50):
            answer = client.get("/")
            assert answer.status_code == 200, server.log
        # An executor starts another one when the first has given its result and not yet come back for more.
        assert int(answer.text) <= (1 if by == "anyio" else 10)
        assert server.stop() == 143
        assert "it is abandoned" not in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["2", "4"])
def test_each_worker_has_helper_threads_of_its_own(workers, tmp_path):
    library("anyio")
    with running(tmp_path, "anyio", True, "--workers", workers) as server:

        def ask():
            for _ in range(20):
                answer = httpx.get(server.url, timeout=30)
                assert answer.status_code == 200
                counts.append(int(answer.text))

        counts = []
        clients = [threading.Thread(target=ask) for _ in range(2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        # Two requests at a time, in any of the workers.
        assert len(counts) == 40, server.log
        assert max(counts) <= 2 * int(workers)
        server.stop()
        assert "it is abandoned" not in server.log


def test_worker_processes_of_anyio_outlive_the_request_that_has_loaded_it(tmp_path):
    """The very first call asks for the root in the step that imports anyio's back end."""
    library("anyio")
    (tmp_path / "pooled.py").write_text(
        "import os\n"
        "import anyio.to_process\n"
        "async def app(scope, receive, send):\n"
        "    number = await anyio.to_process.run_sync(os.getpid)\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'%d' % number})\n"
    )
    with Running("pooled:app", "--port", "0", "--lifespan", "off", cwd=tmp_path) as server:
        answers = [httpx.get(server.url, timeout=60) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5, server.log
        assert len({answer.text for answer in answers}) == 1
        server.stop()
        assert "Traceback" not in server.log
