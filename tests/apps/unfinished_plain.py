"""As `unfinished`, without asyncio."""

import contextlib

import pounce


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await pounce.sleep(3600)
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"x", "more_body": scope["path"] != "/background"})
    if scope["path"] != "/deaf":
        try:
            await pounce.sleep(3600)
        finally:
            await pounce.sleep(0)
    while True:
        with contextlib.suppress(BaseException):
            await pounce.sleep(3600)
