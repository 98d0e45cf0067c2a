"""One application for all scenarios: does what the path says, says who has done it, and can be told to fail."""

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections import Counter

import pounce

FILE = os.environ.get("STRESS_FILE", "")
PATTERN = bytes(range(256)) * 256  # 64 KiB, so that bytes in the wrong order show
WHO = b"%d" % os.getpid()


class MallInfo(ctypes.Structure):
    """What mallinfo2(3) gives: bytes, or numbers of things."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", MallInfo)  # glibc's
mallinfo.restype = MallInfo


async def answer(send, content, status=200):
    head = [(b"content-length", b"%d" % len(content)), (b"x-worker", WHO)]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": content})


async def lifespan(scope, receive, send):
    global WHO
    WHO = b"%d" % os.getpid()
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    if scope["type"] == "websocket":
        await say_back(receive, send)
        return
    path, query = scope["path"], scope["query_string"].decode()
    if path == "/":
        await answer(send, b"hello")
    elif path == "/number":
        await answer(send, query.encode())
    elif path == "/echo":
        await echo(receive, send)
    elif path == "/upload":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await answer(send, b"%d" % size)
    elif path == "/stream":
        parts, pause = (float(word) for word in query.split(","))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-worker", WHO)]})
        for number in range(int(parts)):
            await send({"type": "http.response.body", "body": b"part %d;" % number, "more_body": True})
            if pause:
                await pounce.sleep(pause)
        await send({"type": "http.response.body"})
    elif path == "/big":
        await big(send, int(query))
    elif path == "/wait":
        await wait(receive, send, int(query))
    elif path == "/file":
        head = [(b"content-length", b"%d" % os.stat(FILE).st_size), (b"x-worker", WHO)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.pathsend", "path": FILE})
    elif path == "/sleep":
        await pounce.sleep(float(query))
        await answer(send, b"slept")
    elif path == "/helper":
        await answer(send, await pounce.to_thread(query.encode))
    elif path == "/census":
        await answer(send, json.dumps(census()).encode())
    elif path == "/fault":
        await fault(query, send)
    else:
        await answer(send, b"", 404)


async def say_back(receive, send):
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-worker", WHO)]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def echo(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-worker", WHO)]})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def big(send, size):
    head = [(b"content-length", b"%d" % size), (b"x-worker", WHO)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    while size > len(PATTERN):
        await send({"type": "http.response.body", "body": PATTERN, "more_body": True})
        size -= len(PATTERN)
    await send({"type": "http.response.body", "body": PATTERN[:size]})


async def wait(receive, send, size):
    """Says so much, and waits for what will never happen."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-worker", WHO)]})
    await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


def census():
    """What lives here of the server's own, and how much lives at all."""
    gc.collect()
    objects = gc.get_objects()
    kinds = Counter(type(each).__name__ for each in objects if type(each).__module__.startswith("pounce."))
    lent = mallinfo()
    return {
        **kinds, "objects": len(objects), "blocks": sys.getallocatedblocks(), "malloc": lent.uordblks + lent.hblkhd,
        "threads": threading.active_count(), "pid": os.getpid(),
    }  # fmt: skip


def workers():
    """The workers of this process, from the inside: no server tells its application."""
    return [each for each in gc.get_objects() if type(each).__name__ == "Worker" and hasattr(each, "loop")]


def fail():
    raise ZeroDivisionError("in the loop, as asked")


async def fault(query, send):
    if query == "loop":
        serving = [worker for worker in workers() if worker.phase.value == "serving"]
        await answer(send, b"it will")
        serving[0].loop.post(fail)
    elif query == "block":
        time.sleep(0.3)
        await answer(send, b"blocked")
    elif query == "between":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half of it", "more_body": True})
        raise ZeroDivisionError("between the parts, as asked")
    elif query == "after":
        await answer(send, b"all of it")
        raise ZeroDivisionError("after the end, as asked")
    elif query == "nothing":
        return
    elif query == "deep":
        deeper()
    else:
        kinds = {"before": ZeroDivisionError, "exit": SystemExit, "interrupt": KeyboardInterrupt, "memory": MemoryError}
        raise kinds[query]("as asked")


def deeper():
    return deeper() + sys.getrefcount(None)
