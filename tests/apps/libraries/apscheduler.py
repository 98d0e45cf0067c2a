"""APScheduler: an AsyncIOScheduler at module top, started by the lifespan."""

import asyncio
import contextlib

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI

NEEDS = ["fastapi", "apscheduler"]
scheduler = AsyncIOScheduler(timezone="UTC")
ran = asyncio.Event()


async def tick():
    ran.set()


@contextlib.asynccontextmanager
async def lifespan(app):
    scheduler.add_job(tick, "interval", seconds=0.05, id="tick")
    scheduler.start()
    yield
    scheduler.shutdown(wait=False)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    await asyncio.wait_for(ran.wait(), 10)
    return {"ok": [job.id for job in scheduler.get_jobs()]}
