"""logging: handlers added at module top, one behind a queue with a thread; what is logged is written once."""

import logging
import logging.handlers
import os
import queue
import tempfile
import uuid

from fastapi import FastAPI

NEEDS = ["fastapi"]
file = os.environ.setdefault("SHOP_LOG", tempfile.mkstemp()[1])  # one for all copies and processes
log = logging.getLogger("shop")
log.propagate = False
log.addHandler(logging.FileHandler(file))
waiting = queue.Queue()
log.addHandler(logging.handlers.QueueHandler(waiting))
listener = logging.handlers.QueueListener(waiting, logging.NullHandler())
listener.start()
app = FastAPI()


@app.get("/")
async def root():
    word = uuid.uuid4().hex
    log.warning(word)
    with open(file) as lines:
        return {"ok": lines.read().count(word), "handlers": len(log.handlers), "own": logging.getLogger(__name__).name}
