"""PyMongo async: a client at module top (no server: its time-out)."""

from fastapi import FastAPI
from pymongo import AsyncMongoClient

NEEDS = ["fastapi", "pymongo"]
client = AsyncMongoClient("mongodb://127.0.0.1:9", serverSelectionTimeoutMS=50, connect=False)
app = FastAPI()


@app.get("/")
async def root():
    try:
        await client.shop.users.find_one({"name": "x"})
    except Exception as error:
        return {"ok": type(error).__name__}
