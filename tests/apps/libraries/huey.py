"""Huey: tasks registered on an object at module top, run at once."""

from fastapi import FastAPI
from huey import MemoryHuey

NEEDS = ["fastapi", "huey"]
huey = MemoryHuey("shop", immediate=True)
app = FastAPI()


@huey.task()
def add(x, y):
    return x + y


@app.get("/")
def root():
    return {"ok": add(40, 2)(blocking=True)}
