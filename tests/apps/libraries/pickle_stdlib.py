"""pickle and a process pool: classes and functions of this module found by name."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import pickle

from fastapi import FastAPI

NEEDS = ["fastapi"]
CHECKS = [("GET", "/", 200), ("GET", "/pool", 200)]


@dataclasses.dataclass
class Item:
    name: str


def work(item):
    return Item(item.name.upper())


@contextlib.asynccontextmanager
async def lifespan(app):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": isinstance(pickle.loads(pickle.dumps(Item("x"))), Item)}


@app.get("/pool")
async def pool():
    item = await asyncio.get_running_loop().run_in_executor(app.state.pool, work, Item("x"))
    return {"ok": isinstance(item, Item), "name": item.name}
