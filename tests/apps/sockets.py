"""WebSockets in FastAPI and Starlette, as their documentation writes them."""

import threading
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute

seen = []
fast = FastAPI()


async def token(websocket: WebSocket, token: Annotated[str | None, Query()] = None):
    if token == "wrong":
        raise WebSocketException(code=1008, reason="wrong token")
    return token


@fast.websocket("/items/{item}")
async def items(websocket: WebSocket, item: int, token: Annotated[str | None, Depends(token)]):
    await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
    try:
        while True:
            data = await websocket.receive_json()
            await websocket.send_json({"item": item, "token": token, "thread": threading.current_thread().name, **data})
    except WebSocketDisconnect as error:
        seen.append([error.code, error.reason])


@fast.websocket("/refused")
async def refused(websocket: WebSocket):
    await websocket.close(code=1000)


@fast.websocket("/denied")
async def denied(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("pay first", status_code=402))


@fast.websocket("/exception")
async def exception(websocket: WebSocket):
    raise HTTPException(status_code=404, detail="nothing here")


@fast.websocket("/fails")
async def fails(websocket: WebSocket):
    await websocket.accept()
    raise RuntimeError("on purpose")


@fast.websocket("/bytes")
async def binary(websocket: WebSocket):
    await websocket.accept()
    async for data in websocket.iter_bytes():
        await websocket.send_bytes(data[::-1])


@fast.get("/seen")
async def get_seen():
    return seen


class Echo(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket, data):
        await websocket.send_text(data)
        if data == "leave":
            await websocket.close(4001, "left")


app = Starlette(routes=[WebSocketRoute("/echo", Echo), Mount("/", fast)])
