"""databases: a Database at module top, connected by the lifespan."""

import contextlib

from databases import Database
from fastapi import FastAPI

NEEDS = ["fastapi", "databases", "aiosqlite"]
database = Database("sqlite+aiosqlite:///file:shop?mode=memory&cache=shared&uri=true", force_rollback=True)


@contextlib.asynccontextmanager
async def lifespan(app):
    async with database:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": await database.fetch_val("select 40 + 2")}
