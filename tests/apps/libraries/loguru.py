"""Loguru: a sink added at module top, with a thread of its own; what is logged is written once."""

import os
import tempfile
import uuid

from fastapi import FastAPI
from loguru import logger

NEEDS = ["fastapi", "loguru"]
file = os.environ.setdefault("SHOP_LOG", tempfile.mkstemp()[1])  # one for all copies and processes
logger.remove()
logger.add(file, format="{message}", enqueue=True)
app = FastAPI()


@app.get("/")
async def root():
    word = uuid.uuid4().hex
    with logger.contextualize(request="x"):
        logger.info(word)
    await logger.complete()
    with open(file) as lines:
        return {"ok": lines.read().count(word)}
