"""Starlette: sessions, gzip, BaseHTTPMiddleware, a WebSocket, a stream, a file."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

NEEDS = ["itsdangerous"]
CHECKS = [
    ("GET", "/", 200),
    ("GET", "/stream", 200),
    ("GET", "/file", 200),
    ("WS", "/ws", ["a", "b"], ["A", "B"]),
]


async def root(request):
    request.session["seen"] = True
    return JSONResponse({"ok": request.session["seen"]})


def parts():
    yield from ("a", "b", "c")


async def ws(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        answer = await call_next(request)
        answer.headers["x-stamp"] = "1"
        return answer


app = Starlette(
    routes=[
        Route("/", root),
        Route("/stream", lambda request: StreamingResponse(parts())),
        Route("/file", lambda request: FileResponse(os.__file__)),
        WebSocketRoute("/ws", ws),
    ],
    middleware=[
        Middleware(GZipMiddleware, minimum_size=10),
        Middleware(SessionMiddleware, secret_key="secret"),
        Middleware(Stamp),
    ],
)
