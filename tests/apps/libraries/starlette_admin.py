"""starlette-admin: an admin with a model view, its templates and statics."""

import tempfile

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette_admin.contrib.sqla import Admin, ModelView

NEEDS = ["starlette_admin", "sqlalchemy"]
CHECKS = [
    ("GET", "/admin/", 200),
    ("GET", "/admin/note/list", 200),
    ("GET", "/admin/static/css/vendor/tabler.min.css", 200),
]


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


folder = tempfile.TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/notes.db")
Base.metadata.create_all(engine)
app = Starlette()
admin = Admin(engine, secret_key="x", title="Notes")
admin.add_view(ModelView(Note))
admin.mount_to(app)
