"""Pony: entities bound to one database at module top."""

import tempfile

from fastapi import FastAPI
from pony.orm import Database, Required, db_session

NEEDS = ["fastapi", "pony"]
folder = tempfile.TemporaryDirectory()
db = Database()


class Note(db.Entity):
    text = Required(str)


db.bind("sqlite", f"{folder.name}/notes.db", create_db=True)
db.generate_mapping(create_tables=True)
with db_session:
    Note(text="hello")
app = FastAPI()


@app.get("/")
def root():
    with db_session:
        return {"ok": [note.text for note in Note.select()[:]]}
