"""A Quart application."""

import asyncio

from quart import Quart, request

app = Quart(__name__)


@app.before_serving
async def up():
    app.greeting = "hello"


@app.get("/")
async def index():
    await asyncio.sleep(0.001)
    return {"greeting": app.greeting}


@app.post("/echo")
async def echo():
    return await request.get_data()


@app.get("/stream")
async def stream():
    async def parts():
        for number in range(10):
            yield f"{number}\n".encode()
            await asyncio.sleep(0.001)

    return parts()


@app.get("/sync")
def sync():
    return "sync"
