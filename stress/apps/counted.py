"""Counts what each worker begins and ends, so that both sides of a scenario can be compared.

$STRESS_COUNTS is a folder. Each worker has a file in it from lifespan.startup on, whose name begins with the time at
which its application was loaded; lifespan.shutdown writes the counts to it. /loaded answers with that time. While there
is a file with the folder's name and .broken, the application cannot be loaded.
"""

import json
import os
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

LOADED = time.monotonic_ns()
FOLDER = Path(os.environ["STRESS_COUNTS"])
if FOLDER.with_suffix(".broken").exists():
    raise RuntimeError("broken, as requested")


async def lifespan(scope, receive, send):
    counts = scope["state"]["counts"] = Counter()
    path = FOLDER / f"{LOADED}-{os.getpid()}-{threading.get_native_id()}-{time.monotonic_ns()}"
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            path.write_text("")
        else:
            half = path.with_suffix(".half")
            half.write_text(json.dumps(counts))
            half.rename(path)
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    counts = scope["state"]["counts"]
    kind = "websocket" if scope["type"] == "websocket" else scope["path"][1:] or "get"
    counts[f"{kind} began"] += 1
    if kind == "websocket":
        try:
            await echo(counts, receive, send)
        finally:  # an echo may meet the end of the WebSocket
            counts["websocket ended"] += 1
        return
    if kind == "upload":
        await answer(send, await checksum(receive))
    elif kind == "loaded":
        await answer(send, b"%d" % LOADED)
    else:
        await answer(send, b"hello")
    counts[f"{kind} ended"] += 1


async def answer(send, content):
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": content})


async def checksum(receive):
    size, value, more = 0, 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the upload has ended early")
        size, value, more = size + len(message["body"]), zlib.crc32(message["body"], value), message["more_body"]
    return b"%d %08x" % (size, value)


async def echo(counts, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        counts["message received"] += 1
        await send({**message, "type": "websocket.send"})
