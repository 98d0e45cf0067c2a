"""ujson: a JSON response."""

import ujson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

NEEDS = ["starlette", "ujson"]


async def root(request):
    return Response(ujson.dumps({"ok": [1, 2.5, None, "x"]}), media_type="application/json")


app = Starlette(routes=[Route("/", root)])
