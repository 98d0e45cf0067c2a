"""SQLAlchemy over asyncpg: an engine at module top, on PostgreSQL."""

import os

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

NEEDS = ["fastapi", "sqlalchemy", "greenlet", "asyncpg"]
SERVICES = ["postgres"]
engine = create_async_engine(os.environ["POSTGRES_URL"].replace("postgresql://", "postgresql+asyncpg://"), pool_size=2)
app = FastAPI()


@app.get("/")
async def root():
    async with engine.connect() as connection:
        return {"ok": (await connection.execute(text("select 40 + 2"))).scalar()}
