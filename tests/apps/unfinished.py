"""Requests that do not end by themselves, and some that do not end when they are told to."""

import asyncio
import contextlib


def starlette():
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def events(request):
        async def generate():
            try:
                while True:
                    yield "data: x\n\n"
                    await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)

        return StreamingResponse(generate(), media_type="text/event-stream")

    async def chat(socket):
        await socket.accept()
        await socket.send_text("hello")
        await asyncio.sleep(3600)

    async def background(request):
        return PlainTextResponse("done", background=BackgroundTask(asyncio.sleep, 3600))

    async def deaf(request):
        async def generate():
            yield "deaf"
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)

        return StreamingResponse(generate())

    routes = [Route("/events", events), Route("/background", background), Route("/deaf", deaf)]
    return Starlette(routes=[*routes, WebSocketRoute("/chat", chat)])
