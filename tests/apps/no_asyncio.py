"""FastAPI, Starlette and httpx in an application that never imports asyncio itself. What asks sniffio or anyio which
event loop runs must be told asyncio."""

import os
import sys
import threading

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware

HERE = os.path.dirname(__file__)
at_import = "asyncio" in sys.modules
threads = set()


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next):
        response = await call_next(request)
        response.headers["x-stamp"] = "stamped"
        return response


api = FastAPI()
api.mount("/static", StaticFiles(directory=HERE))
stamped = FastAPI()
stamped.add_middleware(Stamp)


@api.get("/sync")
def sync():
    threads.add(threading.current_thread())
    return len(threads)


@api.get("/file")
def file():
    return FileResponse(__file__)


@api.get("/generator")
def generator():
    return StreamingResponse(iter(["a", "b", "c"]))


@stamped.get("/middleware")
async def middleware():
    return "middleware"


async def client(scope):
    """A request of its own to the address that the client has used."""
    host = dict(scope["headers"])[b"host"].decode()
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{host}/generator")).content


async def app(scope, receive, send):
    path = scope.get("path", "")
    if path == "/client":
        await answer(send, await client(scope))
    elif path == "/at_import":
        await answer(send, b"loaded" if at_import else b"not loaded")
    elif path == "/middleware":
        await stamped(scope, receive, send)
    else:
        await api(scope, receive, send)


async def answer(send, content):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": content})
