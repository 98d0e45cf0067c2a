"""Answers what a copy of this module sees of itself."""

import asyncio
import importlib
import json
import logging
import pickle
import sys
import threading

import shop.models as models
from shop import numbers
from shop.spaces import inside
from shop.star import *  # noqa: F403

from . import circle_a
from .models import Colour, Item, Named, hints

lock = asyncio.Lock()
logger = logging.getLogger(__name__)


def look():
    import shop.late

    from . import late

    assert late is shop.late
    item = Item("x", Item("y"))
    copied = pickle.loads(pickle.dumps((item, Colour.RED, Named(item))))
    assert copied == (item, Colour.RED, Named(item))
    assert hints()["parent"] == Item | None
    assert models.Item is Item
    assert importlib.import_module("shop.late") is late
    assert importlib.import_module(".late", __package__) is late
    assert importlib.import_module("json") is json
    assert sys.modules[__name__].lock is lock
    assert sys.modules[Item.__module__].Item is Item
    assert look.__code__.co_filename == __file__
    return {
        "name": __name__,
        "file": __file__,
        "thread": threading.current_thread().name,
        "lock": id(lock),
        "numbers": id(numbers.identity),
        "late": id(late.identity),
        "inside": id(inside.identity),
        "star": id(starred),  # noqa: F405
        "item": id(Item),
        "circle": circle_a.a(),
        "json": id(json),
        "logger": logger.name,
    }


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["loop"] = asyncio.get_running_loop()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/lock":
        # Contended on purpose: that is when a lock is bound to its loop.
        await asyncio.gather(*(locked() for _ in range(3)))
        content = b"ok"
    elif scope["path"] == "/thread":
        content = json.dumps(await asyncio.to_thread(look)).encode()
    else:
        content = json.dumps(look()).encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": content})


async def locked():
    async with lock:
        await asyncio.sleep(0.001)


def make():
    """A factory: called in each copy."""
    return app
