"""asyncpg: a pool in app.state, on PostgreSQL."""

import contextlib
import os

import asyncpg
from fastapi import FastAPI, Request

NEEDS = ["fastapi", "asyncpg"]
SERVICES = ["postgres"]


@contextlib.asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(os.environ["POSTGRES_URL"], min_size=1, max_size=4) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root(request: Request):
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        return {"ok": await connection.fetchval("select 40 + 2")}
