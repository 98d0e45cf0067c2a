"""fastapi-cache2: a backend set by the lifespan on a class, responses cached."""

import contextlib

from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.inmemory import InMemoryBackend
from fastapi_cache.decorator import cache

NEEDS = ["fastapi", "fastapi_cache"]


@contextlib.asynccontextmanager
async def lifespan(app):
    FastAPICache.init(InMemoryBackend(), prefix="test")
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
@cache(expire=60)
async def root():
    return {"ok": True}
