"""RQ: a queue at module top, jobs run at once."""

import os

from fastapi import FastAPI
from redis import Redis
from rq import Queue

NEEDS = ["fastapi", "rq"]
SERVICES = ["redis"]
queue = Queue(is_async=False, connection=Redis.from_url(os.environ["REDIS_URL"]))
app = FastAPI()


@app.get("/")
def root():
    return {"ok": queue.enqueue(pow, 2, 5).return_value()}
