"""SQLModel: tables are registered in one metadata."""

import tempfile

from fastapi import FastAPI
from sqlmodel import Field, Session, SQLModel, create_engine, select

NEEDS = ["fastapi", "sqlmodel"]


class Team(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    team_id: int | None = Field(default=None, foreign_key="team.id")


folder = tempfile.TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/heroes.db")
SQLModel.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Hero(name="Deadpond", team_id=1))
    session.add(Team(name="Preventers"))
    session.commit()
app = FastAPI()


@app.get("/")
async def root():
    with Session(engine) as session:
        heroes = session.exec(select(Hero, Team).where(Hero.team_id == Team.id))
        return [(hero.name, team.name) for hero, team in heroes]
