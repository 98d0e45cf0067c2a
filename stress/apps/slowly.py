"""An application that takes its time, in every way there is, and says which worker does.

`python -m slowly APP ...` is a server whose workers keep what the kernel gives them, as with SO_REUSEPORT alone. (It
is here because whoever imports asyncio gets the asyncio bridge.)
"""

import threading
import time

from busy import app as busy

import pounce

LONG = 600.0  # seconds: for ever
STUBBORN = 3.0  # seconds that go on after a cancellation

mine = threading.local()  # a worker is a thread, or alone in its process


def fields(began):
    who = b"%d" % threading.get_native_id()
    return [(b"x-who", who), (b"x-running", b"%d" % mine.running), (b"x-began", b"%.6f" % began)]


async def start(send, began, *more):
    await send({"type": "http.response.start", "status": 200, "headers": [*fields(began), *more]})


async def part(send, content, more=True):
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def answer(send, began, content):
    await start(send, began, (b"content-length", b"%d" % len(content)))
    await part(send, content, more=False)


async def app(scope, receive, send):
    way = scope["path"].split("/")[1] if scope["type"] == "http" else ""
    if way not in WAYS:
        await busy(scope, receive, send)
        return
    began = time.monotonic()
    mine.running = getattr(mine, "running", 0) + 1
    try:
        query = scope["query_string"]
        await WAYS[way](receive, send, began, float(query or LONG))
    finally:
        mine.running -= 1


async def run(_receive, send, began, seconds):
    if seconds:
        await pounce.sleep(seconds)
    await answer(send, began, b"ran")


async def hold(_receive, send, began, seconds):
    """Says at once that it runs."""
    await start(send, began)
    await part(send, b"holds, ")
    await pounce.sleep(seconds)
    await part(send, b"held", more=False)


async def block(_receive, send, began, seconds):
    time.sleep(seconds)
    await answer(send, began, b"blocked")


# Too late for --timeout-request


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
    """In time, and then something of its own."""
    await answer(send, began, b"ran")
    await pounce.sleep(seconds)


WAYS = {each.__name__: each for each in (run, hold, block, never, receives, started, stubborn, chunked, counted, after)}

if __name__ == "__main__":
    from pounce.cli import main
    from pounce.worker.balance import Board

    Board.choose = lambda _board, number: number
    main()
