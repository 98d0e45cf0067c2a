"""Says whether what a WebSocket needs is loaded: as a plain application, and as one of a framework."""

import sys


async def plain(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str("wsproto" in sys.modules).encode()})


def framework():
    import asyncio  # noqa: F401

    return plain
