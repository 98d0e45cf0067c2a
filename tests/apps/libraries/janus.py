"""janus: a queue between a thread and a handler."""

import asyncio

import janus
from fastapi import FastAPI

NEEDS = ["fastapi", "janus"]
app = FastAPI()


@app.get("/")
async def root():
    queue = janus.Queue()
    put = asyncio.create_task(asyncio.to_thread(lambda: [queue.sync_q.put(number) for number in range(3)]))
    got = [await queue.async_q.get() for _ in range(3)]
    await put
    await queue.aclose()
    return {"ok": got}
