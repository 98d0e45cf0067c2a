"""fastapi-cache2 with Redis: the lifespan puts a client of its loop into a class of the library."""

import contextlib
import os

import redis.asyncio
from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache

NEEDS = ["fastapi", "fastapi_cache", "redis"]
PROCESSES = True
SERVICES = ["redis"]


@contextlib.asynccontextmanager
async def lifespan(app):
    client = redis.asyncio.from_url(os.environ["REDIS_URL"])
    FastAPICache.init(RedisBackend(client), prefix="test")
    yield
    await client.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/")
@cache(expire=60)
async def root():
    return {"ok": True}
