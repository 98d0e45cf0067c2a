"""aio-pika: a connection tried per request (no broker: the refusal)."""

import aio_pika
from fastapi import FastAPI

NEEDS = ["fastapi", "aio_pika"]
app = FastAPI()


@app.get("/")
async def root():
    try:
        await aio_pika.connect("amqp://guest:guest@127.0.0.1:9/", timeout=5)
    except ConnectionError as error:
        return {"ok": type(error).__name__, "message": aio_pika.Message(b"x").body_size}
