"""python-socketio: a server at module top; the handshake of Engine.IO over a WebSocket."""

import socketio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

NEEDS = ["starlette", "socketio"]
CHECKS = [("GET", "/", 200), ("WS", "/socket.io/?EIO=4&transport=websocket", [], [...])]
sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


@sio.event
async def connect(sid, environ):
    await sio.emit("news", {"hello": sid})


async def root(request):
    return JSONResponse({"ok": True})


app = socketio.ASGIApp(sio, Starlette(routes=[Route("/", root)]))
