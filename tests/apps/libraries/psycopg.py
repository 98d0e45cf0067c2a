"""psycopg: an AsyncConnectionPool at module top, opened by the lifespan, on PostgreSQL."""

import os

from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

NEEDS = ["fastapi", "psycopg", "psycopg_pool"]
SERVICES = ["postgres"]
pool = AsyncConnectionPool(os.environ["POSTGRES_URL"], min_size=1, max_size=4, open=False)


async def lifespan(app):
    async with pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    async with pool.connection() as connection:
        cursor = await connection.execute("select 40 + 2")
        return {"ok": (await cursor.fetchone())[0]}
