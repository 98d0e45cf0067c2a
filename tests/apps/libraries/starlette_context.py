"""starlette-context: a context of the request, in a context variable."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette_context import context
from starlette_context.middleware import RawContextMiddleware

NEEDS = ["starlette", "starlette_context"]


async def root(request):
    context["word"] = "42"
    return JSONResponse(context.data)


app = Starlette(routes=[Route("/", root)], middleware=[Middleware(RawContextMiddleware)])
