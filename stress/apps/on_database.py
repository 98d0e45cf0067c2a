"""FastAPI over PostgreSQL in its usual form: a pool from the lifespan, in app.state."""

import contextlib
import os

import asyncpg
from fastapi import FastAPI


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.pool = await asyncpg.create_pool(os.environ["STRESS_DATABASE"], min_size=4, max_size=4)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def answer():
    async with app.state.pool.acquire() as connection:
        return {"sum": await connection.fetchval("SELECT sum(n) FROM generate_series(1, 10) n")}
