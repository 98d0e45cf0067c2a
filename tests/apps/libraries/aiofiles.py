"""aiofiles: a file read on the loop's threads."""

import aiofiles
from fastapi import FastAPI

NEEDS = ["fastapi", "aiofiles"]
app = FastAPI()


@app.get("/")
async def root():
    async with aiofiles.open(__file__) as file:
        return {"ok": (await file.readline()).strip()}
