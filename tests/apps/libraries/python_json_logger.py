"""python-json-logger: a handler added at module top; each line is written once."""

import logging
import os
import tempfile
import uuid

from fastapi import FastAPI
from pythonjsonlogger.json import JsonFormatter

NEEDS = ["fastapi", "pythonjsonlogger"]
file = os.environ.setdefault("SHOP_LOG", tempfile.mkstemp()[1])  # one for all copies and processes
handler = logging.FileHandler(file)
handler.setFormatter(JsonFormatter())
log = logging.getLogger("shop")
log.propagate = False
log.addHandler(handler)
app = FastAPI()


@app.get("/")
async def root():
    word = uuid.uuid4().hex
    log.warning(word)
    with open(file) as lines:
        return {"ok": lines.read().count(word), "handlers": len(log.handlers)}
