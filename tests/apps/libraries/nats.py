"""nats-py: a client of the lifespan's, to a server of a few lines beside."""

import asyncio
import contextlib

import nats
from fastapi import FastAPI

NEEDS = ["fastapi", "nats"]


async def server(reader, writer):
    writer.write(b'INFO {"server_id": "x", "version": "2", "max_payload": 1048576, "headers": true}\r\n')
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            elif line.startswith(b"PUB"):
                await reader.readline()
    writer.close()


@contextlib.asynccontextmanager
async def lifespan(app):
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        app.state.client = await nats.connect(f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        yield
        await app.state.client.close()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    await app.state.client.publish("notes", b"hello")
    await app.state.client.flush()
    return {"ok": app.state.client.is_connected}
