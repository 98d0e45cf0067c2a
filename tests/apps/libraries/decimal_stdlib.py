"""decimal and contextvars: what is set at module top holds in requests."""

import contextvars
import decimal

from fastapi import FastAPI

NEEDS = ["fastapi"]
CHECKS = [("GET", "/", 200), ("GET", "/sync", 200)]
decimal.getcontext().prec = 50
word = contextvars.ContextVar("word", default="unset")
word.set("set at import")
app = FastAPI()


@app.get("/")
async def root():
    return {"ok": str(decimal.Decimal(1) / 3), "word": word.get()}


@app.get("/sync")
def sync():
    return {"ok": str(decimal.Decimal(1) / 3), "word": word.get()}
