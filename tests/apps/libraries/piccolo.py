"""Piccolo: tables on an engine at module top."""

import contextlib
import tempfile

from fastapi import FastAPI
from piccolo.columns import Varchar
from piccolo.engine.sqlite import SQLiteEngine
from piccolo.table import Table

NEEDS = ["fastapi", "piccolo", "aiosqlite"]
folder = tempfile.TemporaryDirectory()
DB = SQLiteEngine(path=f"{folder.name}/notes.db")


class Note(Table, db=DB):
    text = Varchar()


@contextlib.asynccontextmanager
async def lifespan(app):
    await Note.create_table(if_not_exists=True)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": await Note.count()}
