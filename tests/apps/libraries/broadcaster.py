"""broadcaster: a Broadcast at module top, connected by the lifespan."""

import contextlib

from broadcaster import Broadcast
from fastapi import FastAPI

NEEDS = ["fastapi", "broadcaster"]
broadcast = Broadcast("memory://")


@contextlib.asynccontextmanager
async def lifespan(app):
    await broadcast.connect()
    yield
    await broadcast.disconnect()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    async with broadcast.subscribe("news") as subscriber:
        await broadcast.publish("news", "hello")
        event = await subscriber.get()
        return {"ok": event.message}
