"""FastAPI: validation, a dependency that yields, a sync endpoint, a background task."""

from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI
from pydantic import BaseModel

CHECKS = [
    ("GET", "/", 200),
    ("GET", "/sync?number=2", 200),
    ("GET", "/sync?number=x", 422),
    ("POST", "/items", 200, '{"name": "x", "parent": {"name": "y"}}'),
    ("GET", "/openapi.json", 200),
]
app = FastAPI()


class Item(BaseModel):
    name: str
    parent: "Item | None" = None


async def resource():
    yield "resource"


@app.get("/")
async def root(thing: Annotated[str, Depends(resource)], tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(lambda: None)
    return {"thing": thing}


@app.get("/sync")
def sync(number: int) -> int:
    return number * 2


@app.post("/items")
async def items(item: Item) -> Item:
    return item
