"""motor: a client at module top (no server: built only)."""

from fastapi import FastAPI
from motor.motor_asyncio import AsyncIOMotorClient

NEEDS = ["fastapi", "motor"]
client = AsyncIOMotorClient("mongodb://127.0.0.1:9", serverSelectionTimeoutMS=50, connect=False)
users = client.shop.users
app = FastAPI()


@app.get("/")
async def root():
    try:
        await users.find_one({"name": "x"})
    except Exception as error:
        return {"ok": type(error).__name__}
