"""Applications that hold something bound to a loop, in every place where one can hold it."""

import asyncio
import contextlib
import os
import tempfile

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

POSTGRES = os.environ.get("POUNCE_TEST_POSTGRES", "")
REDIS = os.environ.get("POUNCE_TEST_REDIS", "")

# A pool in app.state


@contextlib.asynccontextmanager
async def pool_in_app_state(app):
    import asyncpg

    app.state.pool = await asyncpg.create_pool(POSTGRES, min_size=1, max_size=4)
    yield
    await app.state.pool.close()


async def use_app_state(request):
    async with request.app.state.pool.acquire() as connection:
        return PlainTextResponse(str(await connection.fetchval("select 40 + 2")))


app_state = Starlette(routes=[Route("/", use_app_state)], lifespan=pool_in_app_state)

# A pool in the lifespan's state


@contextlib.asynccontextmanager
async def pool_in_lifespan_state(app):
    import asyncpg

    async with asyncpg.create_pool(POSTGRES, min_size=1, max_size=4) as pool:
        yield {"pool": pool}


async def use_lifespan_state(request):
    return PlainTextResponse(str(await request.state.pool.fetchval("select 40 + 2")))


lifespan_state = Starlette(routes=[Route("/", use_lifespan_state)], lifespan=pool_in_lifespan_state)

# A lock at module level

lock = asyncio.Lock()


async def use_lock(request):
    async with lock:
        await asyncio.sleep(0)
    return PlainTextResponse("42")


module_lock = Starlette(routes=[Route("/", use_lock)])

# An SQLAlchemy engine at module level, a psycopg pool, aiosqlite, redis, httpx, aiohttp

if os.environ.get("POUNCE_TEST_SQLALCHEMY"):
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(POSTGRES.replace("postgresql://", "postgresql+asyncpg://"), pool_size=2)

    async def use_engine(request):
        async with engine.connect() as connection:
            return PlainTextResponse(str((await connection.execute(text("select 40 + 2"))).scalar()))

    sqlalchemy_app = Starlette(routes=[Route("/", use_engine)])


@contextlib.asynccontextmanager
async def psycopg_lifespan(app):
    from psycopg_pool import AsyncConnectionPool

    async with AsyncConnectionPool(POSTGRES, min_size=1, max_size=4) as pool:
        app.state.pool = pool
        yield


async def use_psycopg(request):
    async with request.app.state.pool.connection() as connection:
        cursor = await connection.execute("select 40 + 2")
        return PlainTextResponse(str((await cursor.fetchone())[0]))


psycopg_app = Starlette(routes=[Route("/", use_psycopg)], lifespan=psycopg_lifespan)


@contextlib.asynccontextmanager
async def sqlite_lifespan(app):
    import aiosqlite

    with tempfile.NamedTemporaryFile() as file:
        app.state.db = await aiosqlite.connect(file.name)
        await app.state.db.execute("create table t (x)")
        await app.state.db.execute("insert into t values (42)")
        yield
        await app.state.db.close()


async def use_sqlite(request):
    async with request.app.state.db.execute("select x from t") as cursor:
        return PlainTextResponse(str((await cursor.fetchone())[0]))


sqlite_app = Starlette(routes=[Route("/", use_sqlite)], lifespan=sqlite_lifespan)


@contextlib.asynccontextmanager
async def redis_lifespan(app):
    import redis.asyncio

    app.state.redis = redis.asyncio.from_url(REDIS)
    await app.state.redis.set("answer", "42")
    yield
    await app.state.redis.aclose()


async def use_redis(request):
    return PlainTextResponse((await request.app.state.redis.get("answer")).decode())


redis_app = Starlette(routes=[Route("/", use_redis)], lifespan=redis_lifespan)


@contextlib.asynccontextmanager
async def clients_lifespan(app):
    import aiohttp
    import httpx

    async with httpx.AsyncClient() as app.state.httpx, aiohttp.ClientSession() as app.state.aiohttp:
        yield


async def use_clients(request):
    url = os.environ["POUNCE_TEST_URL"]
    first = (await request.app.state.httpx.get(url)).text
    async with request.app.state.aiohttp.get(url) as answer:
        second = await answer.text()
    assert first == second
    return PlainTextResponse(first)


clients_app = Starlette(routes=[Route("/", use_clients)], lifespan=clients_lifespan)
