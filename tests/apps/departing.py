"""An application for each framework: streams at /idle and /busy, and tells its standard output what becomes of them."""

import asyncio

HI = "data: hi\n\n"


async def stream(kind):
    try:
        yield HI
        if kind == "idle":
            await asyncio.sleep(3600)
        while True:
            yield "data: " + "x" * 65536 + "\n\n"
    finally:
        print(kind, "is closed", flush=True)


def fast():
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from starlette.background import BackgroundTask

    app = FastAPI()

    @app.get("/{kind}")
    async def get(kind: str):
        async def background():
            print(kind, "has its background task", flush=True)

        return StreamingResponse(stream(kind), media_type="text/event-stream", background=BackgroundTask(background))

    return app


def layered():
    app = fast()
    for _ in range(5):

        @app.middleware("http")
        async def layer(request, call_next):
            return await call_next(request)

    return app


def lite():
    from litestar import Litestar, get
    from litestar.response import Stream

    @get("/{kind:str}")
    async def handle(kind: str) -> Stream:
        return Stream(stream(kind))

    return Litestar([handle])


def quartz():
    from quart import Quart

    app = Quart(__name__)

    @app.get("/<kind>")
    async def get(kind):
        return (part.encode() async for part in stream(kind)), {"content-type": "text/event-stream"}

    return app


def django():
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import StreamingHttpResponse
    from django.urls import path

    async def get(request, kind):
        return StreamingHttpResponse(stream(kind), content_type="text/event-stream")

    global urlpatterns
    urlpatterns = [path("<kind>", get)]
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[])
    return get_asgi_application()
