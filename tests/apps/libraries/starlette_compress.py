"""starlette-compress: zstd, brotli and gzip around responses and files."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route
from starlette_compress import CompressMiddleware

NEEDS = ["starlette", "starlette_compress"]
CHECKS = [("GET", "/", 200, None, {"Accept-Encoding": "gzip"}), ("GET", "/file", 200, None, {"Accept-Encoding": "br"})]
app = Starlette(
    routes=[
        Route("/", lambda request: PlainTextResponse("x" * 2000)),
        Route("/file", lambda request: FileResponse(os.__file__)),
    ],
    middleware=[Middleware(CompressMiddleware, minimum_size=10)],
)
