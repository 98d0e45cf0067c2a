"""sse-starlette: an event stream that ends, with its app-wide exit event."""

import asyncio

from fastapi import FastAPI
from sse_starlette import EventSourceResponse

NEEDS = ["fastapi", "sse_starlette"]
app = FastAPI()


@app.get("/")
async def root():
    async def events():
        for number in range(3):
            yield {"data": number}
            await asyncio.sleep(0)

    return EventSourceResponse(events(), sep="\n")
