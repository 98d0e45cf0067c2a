"""tenacity: an async function that is tried again."""

from fastapi import FastAPI
from tenacity import retry, stop_after_attempt, wait_none

NEEDS = ["fastapi", "tenacity"]
app = FastAPI()


@retry(stop=stop_after_attempt(3), wait=wait_none())
async def shaky(tries):
    tries.append(1)
    if len(tries) < 3:
        raise ValueError
    return len(tries)


@app.get("/")
async def root():
    return {"ok": await shaky([])}
