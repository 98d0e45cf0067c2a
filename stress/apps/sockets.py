"""A WebSocket that echoes every message, without a framework and asyncio."""


async def echo(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        key, data = ("text", text) if text is not None else ("bytes", message["bytes"])
        await send({"type": "websocket.send", key: data})
