"""cachetools: a cache with a lock, used by sync endpoints on many threads."""

import threading

from cachetools import TTLCache, cached
from fastapi import FastAPI

NEEDS = ["fastapi", "cachetools"]
app = FastAPI()


@cached(TTLCache(maxsize=8, ttl=60), lock=threading.RLock())
def answer(number):
    return number * 2


@app.get("/")
def root():
    return {"ok": [answer(number) for number in range(16)]}
