"""nest-asyncio: asyncio patched at module top, a loop run within a loop."""

import asyncio

import nest_asyncio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

NEEDS = ["starlette", "nest_asyncio"]
nest_asyncio.apply(asyncio.new_event_loop())


async def inner():
    await asyncio.sleep(0)
    return 42


async def root(request):
    return JSONResponse({"ok": await inner()})


app = Starlette(routes=[Route("/", root)])
