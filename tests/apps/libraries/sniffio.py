"""sniffio beside FastAPI, where nothing imports asyncio: a sync endpoint, a file, a sync stream."""

import os

from fastapi import FastAPI
from starlette.responses import FileResponse, StreamingResponse

NEEDS = ["fastapi", "sniffio"]
CHECKS = [("GET", "/", 200), ("GET", "/file", 200), ("GET", "/stream", 200)]
app = FastAPI()


@app.get("/")
def root():
    return {"ok": True}


@app.get("/file")
def file():
    return FileResponse(os.__file__)


@app.get("/stream")
def stream():
    return StreamingResponse(iter(["a", "b"]))
