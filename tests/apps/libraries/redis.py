"""redis.asyncio: a client at module top."""

import os

import redis.asyncio
from fastapi import FastAPI

NEEDS = ["fastapi", "redis"]
SERVICES = ["redis"]
client = redis.asyncio.from_url(os.environ["REDIS_URL"], decode_responses=True)
app = FastAPI()


@app.get("/")
async def root():
    await client.set("answer", "42")
    async with client.pipeline(transaction=True) as pipe:
        return {"ok": await pipe.get("answer").get("answer").execute()}
