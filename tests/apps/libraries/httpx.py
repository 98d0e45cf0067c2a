"""httpx: an AsyncClient at module top."""

import httpx
from fastapi import FastAPI

NEEDS = ["fastapi", "httpx"]


async def upstream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"42"})


client = httpx.AsyncClient(transport=httpx.ASGITransport(upstream), base_url="http://upstream")
real = httpx.AsyncClient(timeout=5)
app = FastAPI()


@app.get("/")
async def root():
    try:
        await real.get("http://127.0.0.1:9/")
    except httpx.ConnectError as error:
        return {"ok": (await client.get("/")).text, "refused": type(error).__name__}
