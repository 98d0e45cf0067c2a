"""fastapi-utils: class-based views and a repeated task."""

import contextlib

from fastapi import FastAPI
from fastapi_utils.tasks import repeat_every

NEEDS = ["fastapi", "fastapi_utils", "typing_inspect"]
ticks = []


@repeat_every(seconds=0.05)
async def tick():
    ticks.append(1)


@contextlib.asynccontextmanager
async def lifespan(app):
    await tick()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": bool(ticks)}
