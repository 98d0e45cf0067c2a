"""asgiref: sync_to_async with and without its own thread, locals, async_to_sync."""

from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

NEEDS = ["starlette", "asgiref"]
local = Local()


async def there():
    return local.word


def work():
    return async_to_sync(there)()


async def root(request):
    local.word = "42"
    return JSONResponse({"ok": [await sync_to_async(work)(), await sync_to_async(work, thread_sensitive=False)()]})


app = Starlette(routes=[Route("/", root)])
