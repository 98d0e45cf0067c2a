"""Litestar: handlers, a store with sessions, a stream, a WebSocket."""

from litestar import Litestar, Request, get, websocket_listener
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.response import Stream

NEEDS = ["litestar"]
CHECKS = [("GET", "/", 200), ("GET", "/stream", 200), ("WS", "/ws", ["a"], ["A"]), ("GET", "/schema/openapi.json", 200)]


@get("/")
async def root(request: Request) -> dict[str, bool]:
    request.session["seen"] = True
    return {"ok": request.session["seen"]}


@get("/stream")
async def stream() -> Stream:
    return Stream(iter(["a", "b"]))


@websocket_listener("/ws")
async def ws(data: str) -> str:
    return data.upper()


app = Litestar([root, stream, ws], middleware=[ServerSideSessionConfig().middleware])
