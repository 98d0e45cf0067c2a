"""A FastAPI application with what such applications have."""

import asyncio
import contextlib
import threading
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, File, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

events = []
lock = asyncio.Lock()


@contextlib.asynccontextmanager
async def lifespan(app):
    events.append("up")
    yield {"greeting": "hello from lifespan"}
    events.append("down")
    print("fastapi down", flush=True)


app = FastAPI(lifespan=lifespan)
app.add_middleware(GZipMiddleware, minimum_size=100_000)


class Item(BaseModel):
    name: str
    price: float
    parent: "Item | None" = None


class Teapot(Exception):
    pass


@app.exception_handler(Teapot)
async def teapot(request, error):
    return JSONResponse({"error": "teapot"}, status_code=418)


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-stamp"] = request.url.path
        return response


app.add_middleware(Stamp)


@app.get("/async")
async def async_endpoint():
    async with lock:
        await asyncio.sleep(0.001)
    return {"kind": "async"}


@app.get("/sync")
def sync_endpoint():
    return {"kind": "sync", "thread": threading.current_thread().name}


async def resource():
    events.append("acquired")
    try:
        yield "resource"
    finally:
        events.append("released")


@app.get("/depends")
async def depends(thing: Annotated[str, Depends(resource)]):
    return {"thing": thing}


@app.post("/items")
async def items(item: Item):
    return item


@app.post("/upload")
async def upload(file: Annotated[UploadFile, File()]):
    content = await file.read()
    return {"name": file.filename, "size": len(content)}


@app.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(events.append, "background done")
    return {}


@app.get("/events")
async def get_events():
    return events


@app.get("/stream")
async def stream():
    async def parts():
        for number in range(10):
            yield f"{number}\n"
            await asyncio.sleep(0.001)

    return StreamingResponse(parts())


@app.get("/sse")
async def sse(request: Request):
    async def parts():
        try:
            number = 0
            while not await request.is_disconnected():
                yield f"data: {number}\n\n"
                number += 1
                await asyncio.sleep(0.01)
        finally:
            events.append("sse over")

    return StreamingResponse(parts(), media_type="text/event-stream")


@app.get("/state")
async def state(request: Request):
    return {"greeting": request.state.greeting}


@app.get("/fails")
async def fails():
    raise HTTPException(404, "not here")


@app.get("/teapot")
async def make_tea():
    raise Teapot


@app.get("/broken")
async def broken():
    raise ZeroDivisionError
