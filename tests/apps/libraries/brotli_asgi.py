"""brotli-asgi: a middleware that holds back and rewrites responses, files among them."""

import os

from brotli_asgi import BrotliMiddleware
from fastapi import FastAPI
from starlette.responses import FileResponse

NEEDS = ["fastapi", "brotli_asgi"]
CHECKS = [("GET", "/", 200), ("GET", "/file", 200, None, {"Accept-Encoding": "br"})]
app = FastAPI()
app.add_middleware(BrotliMiddleware, minimum_size=10)


@app.get("/")
async def root():
    return {"ok": True}


@app.get("/file")
async def file():
    return FileResponse(os.__file__)
