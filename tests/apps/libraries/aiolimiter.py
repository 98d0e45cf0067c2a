"""aiolimiter: a limiter at module top, which belongs to one loop."""

from aiolimiter import AsyncLimiter
from fastapi import FastAPI

NEEDS = ["fastapi", "aiolimiter"]
limiter = AsyncLimiter(200, 0.1)
app = FastAPI()


@app.get("/")
async def root():
    async with limiter:
        return {"ok": True}
