"""An application that loads the one beside it, and with that FastAPI, in its first request."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    import no_asyncio

    await no_asyncio.app(scope, receive, send)
