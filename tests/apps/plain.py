"""Applications for the tests, without a framework and without asyncio."""

import json
import os
import sys
import threading
import time

import pounce


async def answer(send, content, status=200):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": content})


async def app(scope, receive, send):
    """Does what the path says."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        sys.stdout.write("lifespan shutdown\n")  # print would write the line and its end apart
        await send({"type": "lifespan.shutdown.complete"})
        return
    path, query = scope["path"], scope["query_string"].decode()
    if path == "/sleep":
        await pounce.sleep(float(query))
        await answer(send, b"slept")
    elif path == "/block":
        time.sleep(float(query))
        await answer(send, b"blocked")
    elif path == "/helper":
        await pounce.to_thread(time.sleep, float(query))
        await answer(send, b"helped")
    elif path == "/who":
        who = {"pid": os.getpid(), "thread": threading.current_thread().name, "asyncio": "asyncio" in sys.modules}
        await answer(send, json.dumps(who).encode())
    elif path == "/echo":
        content = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message["body"]
            if not message["more_body"]:
                break
        await answer(send, content)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for _ in range(16):
            await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/error":
        raise ZeroDivisionError("as asked")
    elif path == "/exit":
        os._exit(int(query or 9))
    else:
        await answer(send, b"hello")


def make():
    return app


async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def dying(scope, receive, send):
    """A worker that ends the moment it is asked something."""
    if scope["type"] == "lifespan":
        raise RuntimeError
    os._exit(5)


class Attributes:
    class inner:
        app = staticmethod(app)


not_callable = 42


async def imported(scope, receive, send):
    """What the server has imported."""
    if scope["type"] == "http":
        await answer(send, "\n".join(sys.modules).encode())
