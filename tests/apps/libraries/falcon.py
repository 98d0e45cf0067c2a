"""Falcon: an ASGI app with media, a stream and a WebSocket."""

import falcon.asgi

NEEDS = ["falcon"]
CHECKS = [("GET", "/", 200), ("POST", "/", 200, '{"a": 1}'), ("GET", "/stream", 200), ("WS", "/ws", ["a"], ["A"])]


class Root:
    async def on_get(self, request, response):
        response.media = {"ok": True}

    async def on_post(self, request, response):
        response.media = await request.get_media()


class Stream:
    async def on_get(self, request, response):
        async def parts():
            yield b"a"
            yield b"b"

        response.stream = parts()


class Socket:
    async def on_websocket(self, request, socket):
        await socket.accept()
        try:
            while True:
                await socket.send_text((await socket.receive_text()).upper())
        except falcon.WebSocketDisconnected:
            pass


app = falcon.asgi.App()
app.add_route("/", Root())
app.add_route("/stream", Stream())
app.add_route("/ws", Socket())
