"""A thread of the application that is the first to import asyncio, and sends to the client at once."""

import pytest

from tests.support.server import Running, get

PROGRAM = """
import threading

import pounce

def speak(send, done):
    {works}
    done.append(True)

async def app(scope, receive, send):
    done = []
    thread = threading.Thread(target=speak, args=(send, done))
    thread.start()
    {meanwhile}
    while not done and thread.is_alive():
        await pounce.sleep(0.01)
"""


WORKS = """import asyncio
    async def say():
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"from the thread"})
    asyncio.run(say())"""


@pytest.mark.parametrize("workers", ["1", "2"])
# While the worker works it has no turn, in which it would get its own asyncio loop.
@pytest.mark.parametrize("meanwhile", ["", "sum(range(20_000_000))"], ids=["waits", "works"])
def test_the_first_import_of_asyncio_on_a_helper_thread_is_noticed(meanwhile, workers, tmp_path):
    (tmp_path / "first.py").write_text(PROGRAM.format(works=WORKS, meanwhile=meanwhile))
    with Running("first:app", "--port", "0", "--lifespan", "off", "--workers", workers, cwd=tmp_path) as server:
        status, content = get(server.address)
        assert (status, b"from the thread" in content) == (200, True), server.log
