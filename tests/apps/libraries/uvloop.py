"""uvloop: a loop of its own on a thread."""

import asyncio
import threading

import uvloop
from fastapi import FastAPI

NEEDS = ["fastapi", "uvloop"]
app = FastAPI()


async def work():
    await asyncio.sleep(0)
    return 42


def own_loop(got):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        got.append(runner.run(work()))


@app.get("/")
async def root():
    got = []
    thread = threading.Thread(target=own_loop, args=(got,))
    thread.start()
    await asyncio.to_thread(thread.join)
    return {"ok": got, "here": await work()}
