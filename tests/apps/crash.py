"""Applications that fail in every place."""

import contextlib
import json
import os

import pounce

ERRORS = {
    error.__name__: error for error in (ValueError, MemoryError, RecursionError, SystemExit, KeyboardInterrupt, OSError)
}


def fall(name):
    if name == "RecursionError":
        fall_for_ever(1)
    raise ERRORS[name]("as asked")


def fall_for_ever(depth):
    return fall_for_ever(depth + 1) + 1


def generator():
    """Has nothing to say, and never ends."""
    count = 0
    while True:
        count += 1
        if count < 0:
            yield b""


def make(sleep):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        _, place, name = (scope["path"] + "/").split("/")[:3]
        if place == "before":
            fall(name)
        if place == "waiting":
            await sleep(0.01)
            fall(name)
        await send({"type": "http.response.start", "status": 200})
        await send(
            {"type": "http.response.body", "body": b"hello", "more_body": place in ("between", "endless", "generator")}
        )
        while place == "endless":
            with contextlib.suppress(OSError):  # and on it goes, although nobody is there
                await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
        if place == "generator":
            for part in generator():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        if place == "background":
            await sleep(0.01)
        if place in ("between", "after", "background"):
            fall(name)

    async def lifespan(receive, send):
        fails = json.loads(os.environ.get("FAILS", "{}"))
        await receive()
        if "startup" in fails:
            fall(fails["startup"])
        await send({"type": "lifespan.startup.complete"})
        if "serving" in fails:
            await sleep(0.01)
            fall(fails["serving"])
        if fails.get("shutdown") == "hang":
            await receive()
            await sleep(600)
        await receive()
        if "shutdown" in fails:
            fall(fails["shutdown"])
        await send({"type": "lifespan.shutdown.complete"})

    return app


app = make(pounce.sleep)


def with_asyncio():
    import asyncio

    return make(asyncio.sleep)
