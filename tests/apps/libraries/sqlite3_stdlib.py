"""sqlite3 and threading.local: a connection per thread of sync endpoints."""

import sqlite3
import threading

from fastapi import FastAPI

NEEDS = ["fastapi"]
local = threading.local()
app = FastAPI()


@app.get("/")
def root():
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(":memory:")
    return {"ok": local.connection.execute("select 40 + 2").fetchone()[0]}
