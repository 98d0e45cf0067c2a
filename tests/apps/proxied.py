"""Says what it knows of its client, as JSON; /sleep waits for as many seconds as the query says."""

import json

import pounce


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    seen = {name: scope[name] for name in ("client", "server", "scheme")}
    text = json.dumps({**seen, "proxy": scope["extensions"].get("proxy")}, default=repr)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        await receive()
        return
    if scope["path"] == "/sleep":
        await pounce.sleep(float(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
