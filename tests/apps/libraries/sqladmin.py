"""SQLAdmin: an admin with a model view, its templates and statics."""

import tempfile

from fastapi import FastAPI
from sqladmin import Admin, ModelView
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NEEDS = ["fastapi", "sqladmin", "sqlalchemy"]
CHECKS = [("GET", "/admin/", 200), ("GET", "/admin/note/list", 200), ("GET", "/admin/statics/css/main.css", 200)]


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


folder = tempfile.TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/notes.db")
Base.metadata.create_all(engine)
app = FastAPI()


class NoteAdmin(ModelView, model=Note):
    column_list = ("id", "text")


Admin(app, engine).add_view(NoteAdmin)
