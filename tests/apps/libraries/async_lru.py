"""async-lru: a cache of results, which belongs to one loop."""

import asyncio

from async_lru import alru_cache
from fastapi import FastAPI

NEEDS = ["fastapi", "async_lru"]
app = FastAPI()


@alru_cache(maxsize=8)
async def answer(number):
    await asyncio.sleep(0)
    return number * 2


@app.get("/")
async def root():
    return {"ok": [await answer(number) for number in range(4)]}
