"""Alembic: migrations run by the lifespan, on a database of the worker's own."""

import contextlib

from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi import FastAPI
from sqlalchemy import Column, Integer, create_engine, inspect
from sqlalchemy.pool import StaticPool

NEEDS = ["fastapi", "alembic"]


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.engine = create_engine("sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool)
    with app.state.engine.begin() as connection:
        Operations(MigrationContext.configure(connection)).create_table("notes", Column("id", Integer))
    yield
    app.state.engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": inspect(app.state.engine).get_table_names()}
