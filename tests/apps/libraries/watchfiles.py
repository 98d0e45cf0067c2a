"""watchfiles: a watcher of the lifespan's, with a thread of its own."""

import asyncio
import contextlib
import pathlib
import tempfile

import watchfiles
from fastapi import FastAPI

NEEDS = ["fastapi", "watchfiles"]


@contextlib.asynccontextmanager
async def lifespan(app):
    with tempfile.TemporaryDirectory() as folder:
        stop, app.state.seen = asyncio.Event(), asyncio.Event()

        async def watch():
            async for _ in watchfiles.awatch(folder, stop_event=stop, force_polling=True, poll_delay_ms=50):
                app.state.seen.set()

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.2)
        pathlib.Path(folder, "new").write_text("x")
        yield
        stop.set()
        await task


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    await asyncio.wait_for(app.state.seen.wait(), 20)
    return {"ok": True}
