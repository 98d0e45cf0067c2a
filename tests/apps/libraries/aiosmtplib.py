"""aiosmtplib: a message sent to a server of a few lines."""

import asyncio
import contextlib
from email.message import EmailMessage

import aiosmtplib
from fastapi import FastAPI

NEEDS = ["fastapi", "aiosmtplib"]


async def server(reader, writer):
    writer.write(b"220 x\r\n")
    data = False
    while line := await reader.readline():
        if data and line != b".\r\n":
            continue
        data = line.startswith(b"DATA")
        writer.write(b"354 x\r\n" if data else b"221 x\r\n" if line.startswith(b"QUIT") else b"250 x\r\n")
    writer.close()


@contextlib.asynccontextmanager
async def lifespan(app):
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        app.state.port = listening.sockets[0].getsockname()[1]
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    message = EmailMessage()
    message["From"], message["To"] = "a@example.com", "b@example.com"
    message.set_content("hello")
    _, said = await aiosmtplib.send(message, hostname="127.0.0.1", port=app.state.port, start_tls=False)
    return {"ok": said}
