"""The application that is served while there is no other: with --reload, when the developer's cannot be loaded.

Owner: none; it keeps nothing.
"""

from pounce.app.types import Receive, Scope, Send

TEXT = b"The application cannot be loaded. The server's log says why.\n"
FIELDS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(TEXT)).encode())]


async def placeholder(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers every request with 500, and refuses WebSockets."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 500, "headers": FIELDS})
        await send({"type": "http.response.body", "body": TEXT})
    elif scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
    else:
        await send({"type": "websocket.close", "code": 1011})
