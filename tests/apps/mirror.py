"""Says what it was asked, as it sees it: the scope as JSON. Its event stream goes on when the file $GATE is there."""

import json
import os

import pounce


def seen(scope):
    names = ("type", "scheme", "client", "server", "root_path", "path", "http_version")
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    extensions = {name: scope["extensions"].get(name) for name in ("proxy", "request_id")}
    return json.dumps({**{name: scope[name] for name in names}, **extensions, "fields": fields}, default=repr)


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": seen(scope)})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({**message, "type": "websocket.send"})
    elif scope["type"] == "http" and scope["path"] == "/events":
        await send_events(send)
    elif scope["type"] == "http":
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        fields = [(b"content-type", b"application/json"), (b"x-size", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": seen(scope).encode()})


async def send_events(send):
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
    while not os.path.exists(os.environ["GATE"]):
        await pounce.sleep(0.005)
    await send({"type": "http.response.body", "body": b"data: two\n\n"})
