"""orjson: a JSON response class of FastAPI's."""

from datetime import UTC, datetime

import orjson
from fastapi import FastAPI, Response

NEEDS = ["fastapi", "orjson"]
app = FastAPI()


@app.get("/")
async def root():
    return Response(orjson.dumps({"ok": datetime(2026, 1, 2, tzinfo=UTC)}), media_type="application/json")
