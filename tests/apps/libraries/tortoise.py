"""Tortoise ORM: models bound to one context by the lifespan."""

import contextlib

from fastapi import FastAPI
from tortoise import Tortoise, fields
from tortoise.models import Model

NEEDS = ["fastapi", "tortoise", "aiosqlite"]
PROCESSES = True


class Note(Model):
    id = fields.IntField(primary_key=True)
    text = fields.TextField()


@contextlib.asynccontextmanager
async def lifespan(app):
    await Tortoise.init(db_url="sqlite://:memory:", modules={"models": [__name__]}, _enable_global_fallback=True)
    await Tortoise.generate_schemas()
    await Note.create(text="hello")
    yield
    await Tortoise.close_connections()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": [note.text for note in await Note.all()]}
