"""A Litestar application."""

import asyncio

from litestar import Litestar, get, post
from litestar.response import Stream


@get("/")
async def index() -> dict[str, str]:
    await asyncio.sleep(0.001)
    return {"kind": "async"}


@get("/sync", sync_to_thread=True)
def sync() -> dict[str, str]:
    return {"kind": "sync"}


@post("/echo")
async def echo(data: dict[str, int]) -> dict[str, int]:
    return data


@get("/stream")
async def stream() -> Stream:
    async def parts():
        for number in range(10):
            yield f"{number}\n"
            await asyncio.sleep(0.001)

    return Stream(parts())


app = Litestar([index, sync, echo, stream])
