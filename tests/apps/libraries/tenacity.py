"""tenacity: an async function that is tried again."""

from fastapi import FastAPI
from tenacity import retry, stop_after_attempt, wait_none

NEEDS = ["fastapi", "tenacity"]
# 9.2.1: each call of a decorated function empties the one dict of statistics of all calls, also while another thread
# counts in it. Plain threads with a loop each get the KeyError too, in one call of a hundred on 3.13t.
RACES = "calls of one function on two threads empty each other's statistics: KeyError (jd/tenacity#701)"
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
