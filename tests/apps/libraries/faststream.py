"""FastStream: a Redis broker of the lifespan's, with a subscriber, in FastAPI."""

import asyncio
import os

from fastapi import FastAPI
from faststream.redis.fastapi import RedisRouter

NEEDS = ["fastapi", "faststream", "redis"]
SERVICES = ["redis"]
router = RedisRouter(os.environ["REDIS_URL"])
heard = asyncio.Event()


@router.subscriber("news")
async def news(text: str):
    heard.set()


@router.get("/")
async def root():
    await router.broker.publish("hello", "news")
    await asyncio.wait_for(heard.wait(), 20)
    return {"ok": True}


app = FastAPI()
app.include_router(router)
