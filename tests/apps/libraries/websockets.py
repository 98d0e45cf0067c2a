"""websockets: a client's connection to a server of the lifespan's."""

import contextlib

import websockets
from fastapi import FastAPI

NEEDS = ["fastapi", "websockets"]


async def upper(socket):
    async for text in socket:
        await socket.send(text.upper())


@contextlib.asynccontextmanager
async def lifespan(app):
    async with websockets.serve(upper, "127.0.0.1", 0) as server:
        app.state.port = server.sockets[0].getsockname()[1]
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    async with websockets.connect(f"ws://127.0.0.1:{app.state.port}") as socket:
        await socket.send("hello")
        return {"ok": await socket.recv()}
