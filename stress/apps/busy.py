"""The application of most scenarios: the path says what it does, `x-worker` says which process did it, and it fails on
request."""

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
PATTERN = bytes(range(256)) * 256  # 64 KiB in which misplaced bytes are visible
WORKER = b"%d" % os.getpid()


class MallInfo(ctypes.Structure):
    """The result of mallinfo2(3): bytes and counts."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", MallInfo)  # glibc's
mallinfo.restype = MallInfo


async def answer(send, content, status=200):
    head = [(b"content-length", b"%d" % len(content)), (b"x-worker", WORKER)]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": content})


async def lifespan(scope, receive, send):
    global WORKER
    WORKER = b"%d" % os.getpid()
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
        await echo_messages(receive, send)
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
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-worker", WORKER)]})
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
        head = [(b"content-length", b"%d" % os.stat(FILE).st_size), (b"x-worker", WORKER)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.pathsend", "path": FILE})
    elif path == "/sleep":
        await pounce.sleep(float(query))
        await answer(send, b"slept")
    elif path == "/helper":
        await answer(send, await pounce.to_thread(query.encode))
    elif path == "/objects":
        await answer(send, json.dumps(count_objects()).encode())
    elif path == "/fault":
        await fault(query, send)
    else:
        await answer(send, b"", 404)


async def echo_messages(receive, send):
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-worker", WORKER)]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def echo(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-worker", WORKER)]})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def big(send, size):
    head = [(b"content-length", b"%d" % size), (b"x-worker", WORKER)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    while size > len(PATTERN):
        await send({"type": "http.response.body", "body": PATTERN, "more_body": True})
        size -= len(PATTERN)
    await send({"type": "http.response.body", "body": PATTERN[:size]})


async def wait(receive, send, size):
    """Sends `size` bytes and waits until the client disconnects."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-worker", WORKER)]})
    await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


def count_objects():
    """The server's objects by type, and how many objects and bytes there are in all."""
    gc.collect()
    objects = gc.get_objects()
    kinds = Counter(type(each).__name__ for each in objects if type(each).__module__.startswith("pounce."))
    heap = mallinfo()
    return {
        **kinds, "objects": len(objects), "blocks": sys.getallocatedblocks(), "malloc": heap.uordblks + heap.hblkhd,
        "threads": threading.active_count(), "pid": os.getpid(),
    }  # fmt: skip


def workers():
    """The workers of this process. A server does not show them to its application; gc does."""
    return [each for each in gc.get_objects() if type(each).__name__ == "Worker" and hasattr(each, "loop")]


def fail():
    raise ZeroDivisionError("in the loop, as requested")


async def fault(query, send):
    if query == "loop":
        serving = [worker for worker in workers() if worker.state.value == "serving"]
        await answer(send, b"it will fail")
        serving[0].loop.post(fail)
    elif query == "block":
        time.sleep(0.3)
        await answer(send, b"blocked")
    elif query == "between":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half of it", "more_body": True})
        raise ZeroDivisionError("between the parts, as requested")
    elif query == "after":
        await answer(send, b"all of it")
        raise ZeroDivisionError("after the end, as requested")
    elif query == "nothing":
        return
    elif query == "deep":
        deeper()
    else:
        kinds = {"before": ZeroDivisionError, "exit": SystemExit, "interrupt": KeyboardInterrupt, "memory": MemoryError}
        raise kinds[query]("as requested")


def deeper():
    return deeper() + sys.getrefcount(None)
