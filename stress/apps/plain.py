"""Plain ASGI applications, without a framework and asyncio: the cheapest ones, so that the server dominates the cost.

A server imports them as `plain:hello`: this directory is on its path, and nothing else of the project.
"""

import os

TEXT = (b"content-type", b"text/plain")
PART = b"x" * 4096
MEBIBYTE = b"x" * 1048576
FILE = os.environ.get("STRESS_FILE", "")


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def hello(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def content_of(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def echo(scope, receive, send):
    """Sends the content of the request."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    body = await content_of(receive)
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length]})
    await send({"type": "http.response.body", "body": body})


async def upload(scope, receive, send):
    """Sends the length of the request's content."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = b"%d" % size
    length = (b"content-length", b"%d" % len(answer))
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length]})
    await send({"type": "http.response.body", "body": answer})


async def stream(scope, receive, send):
    """64 KiB in 16 parts, without Content-Length."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    for _ in range(16):
        await send({"type": "http.response.body", "body": PART, "more_body": True})
    await send({"type": "http.response.body"})


async def big(scope, receive, send):
    """1 MiB in one message."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    length = (b"content-length", b"1048576")
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length]})
    await send({"type": "http.response.body", "body": MEBIBYTE})


async def file(scope, receive, send):
    """A file: with ASGI's extension http.response.pathsend if the server offers it; otherwise read here and sent in one
    message, the cheapest way for an application."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    pathsend = "http.response.pathsend" in scope.get("extensions", ())
    length = (b"content-length", b"%d" % os.stat(FILE).st_size)
    way = (b"x-way", b"pathsend" if pathsend else b"read and sent by the application")
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length, way]})
    if pathsend:
        await send({"type": "http.response.pathsend", "path": FILE})
    else:
        with open(FILE, "rb") as opened:
            await send({"type": "http.response.body", "body": opened.read()})
