"""anyio: a limiter and a lock at module top, task groups, threads that call back."""

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

NEEDS = ["starlette", "anyio"]
lock = anyio.Lock()
limiter = anyio.CapacityLimiter(10)


def work():
    return anyio.from_thread.run(anyio.sleep, 0) or 42


async def root(request):
    got = []

    async def one():
        got.append(await anyio.to_thread.run_sync(work, limiter=limiter))

    async with lock, anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    return JSONResponse({"ok": got})


app = Starlette(routes=[Route("/", root)])
