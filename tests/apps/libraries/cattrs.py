"""attrs and cattrs: classes structured by a converter that learns them at first use."""

import attrs
import cattrs
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

NEEDS = ["starlette", "attrs", "cattrs"]
CHECKS = [("POST", "/", 200, '{"name": "x", "parts": [{"name": "y", "parts": []}]}')]


@attrs.define
class Part:
    name: str
    parts: "list[Part]" = attrs.field(factory=list)


async def root(request):
    return JSONResponse(cattrs.unstructure(cattrs.structure(await request.json(), Part)))


app = Starlette(routes=[Route("/", root, methods=["POST"])])
