"""An application that takes its time in many ways, and names its worker in `x-thread`.

`python -m slowly APP ...` is a server whose workers keep every connection that they accept, as with SO_REUSEPORT alone.
(It is in this module because it must not import asyncio: the server would then use the asyncio bridge.)
"""

import threading
import time

from busy import app as busy

import pounce

LONG = 600.0  # seconds: longer than any scenario waits
STUBBORN = 3.0  # seconds that a task continues after its cancellation

worker = threading.local()  # the state of a worker: it is a thread, or the only one of its process


def fields(began):
    thread = b"%d" % threading.get_native_id()
    return [(b"x-thread", thread), (b"x-running", b"%d" % worker.running), (b"x-began", b"%.6f" % began)]


async def start(send, began, *more):
    await send({"type": "http.response.start", "status": 200, "headers": [*fields(began), *more]})


async def part(send, content, more=True):
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def answer(send, began, content):
    await start(send, began, (b"content-length", b"%d" % len(content)))
    await part(send, content, more=False)


async def app(scope, receive, send):
    name = scope["path"].split("/")[1] if scope["type"] == "http" else ""
    if name not in HANDLERS:
        await busy(scope, receive, send)
        return
    began = time.monotonic()
    worker.running = getattr(worker, "running", 0) + 1
    try:
        query = scope["query_string"]
        await HANDLERS[name](receive, send, began, float(query or LONG))
    finally:
        worker.running -= 1


async def run(_receive, send, began, seconds):
    if seconds:
        await pounce.sleep(seconds)
    await answer(send, began, b"ran")


async def hold(_receive, send, began, seconds):
    """Sends the head and a first part at once, the rest after `seconds`."""
    await start(send, began)
    await part(send, b"holds, ")
    await pounce.sleep(seconds)
    await part(send, b"held", more=False)


async def block(_receive, send, began, seconds):
    time.sleep(seconds)
    await answer(send, began, b"blocked")


# Exceed --timeout-request


async def never(_receive, _send, _began, seconds):
    await pounce.sleep(seconds)


async def receives(receive, _send, _began, _seconds):
    while (await receive())["type"] != "http.disconnect":
        pass


async def started(_receive, send, began, seconds):
    await start(send, began)
    await pounce.sleep(seconds)


async def stubborn(_receive, _send, _began, seconds):
    try:
        await pounce.sleep(seconds)
    except BaseException:
        await pounce.sleep(STUBBORN)


async def chunked(_receive, send, began, seconds):
    await start(send, began)
    await part(send, b"some")
    await pounce.sleep(seconds)


async def counted(_receive, send, began, seconds):
    await start(send, began, (b"content-length", b"8"))
    await part(send, b"some")
    await pounce.sleep(seconds)


async def after(_receive, send, began, seconds):
    """The response is in time; the task continues after it."""
    await answer(send, began, b"ran")
    await pounce.sleep(seconds)


_ALL = (run, hold, block, never, receives, started, stubborn, chunked, counted, after)
HANDLERS = {each.__name__: each for each in _ALL}

if __name__ == "__main__":
    from pounce.cli import main
    from pounce.worker.balance import Balancer

    assert callable(Balancer.least_loaded)  # without that method this server would balance
    Balancer.least_loaded = lambda _balancer, number: number
    main()
