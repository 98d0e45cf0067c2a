"""arq: a pool of the lifespan's, jobs put into Redis."""

import contextlib
import os

from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI

NEEDS = ["fastapi", "arq"]
SERVICES = ["redis"]


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.pool = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))
    yield
    await app.state.pool.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    job = await app.state.pool.enqueue_job("work", 1)
    return {"ok": (await job.status()).value}
