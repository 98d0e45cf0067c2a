"""Peewee: models on a database at module top; a connection per thread."""

import tempfile

from fastapi import FastAPI
from peewee import CharField, Model, SqliteDatabase

NEEDS = ["fastapi", "peewee"]
folder = tempfile.TemporaryDirectory()
database = SqliteDatabase(f"{folder.name}/notes.db")


class Note(Model):
    text = CharField()

    class Meta:
        database = database


with database:
    database.create_tables([Note])
    Note.create(text="hello")
app = FastAPI()


@app.get("/")
def root():
    with database.connection_context():
        return {"ok": [note.text for note in Note.select()]}
