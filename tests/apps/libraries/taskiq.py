"""TaskIQ: an in-memory broker at module top, started by the lifespan."""

import contextlib

from fastapi import FastAPI
from taskiq import InMemoryBroker

NEEDS = ["fastapi", "taskiq"]
broker = InMemoryBroker()


@broker.task
async def add(x: int, y: int) -> int:
    return x + y


@contextlib.asynccontextmanager
async def lifespan(app):
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    task = await add.kiq(40, 2)
    return {"ok": (await task.wait_result(timeout=5)).return_value}
