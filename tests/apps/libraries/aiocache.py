"""aiocache: a decorated function, in the memory of a class."""

from aiocache import Cache, cached
from fastapi import FastAPI

NEEDS = ["fastapi", "aiocache"]
app = FastAPI()


@cached(ttl=60, cache=Cache.MEMORY, key="answer")
async def answer():
    return 42


@app.get("/")
async def root():
    return {"ok": await answer()}
