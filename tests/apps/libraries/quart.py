"""Quart: an async and a sync handler, a background task, a WebSocket."""

from quart import Quart, current_app, request, websocket

NEEDS = ["quart"]
CHECKS = [("GET", "/?q=1", 200), ("GET", "/sync", 200), ("POST", "/", 200, "{}"), ("WS", "/ws", ["a"], ["A"])]
app = Quart(__name__)


@app.route("/", methods=["GET", "POST"])
async def root():
    app.add_background_task(lambda: None)
    return {"ok": current_app.name == __name__, "q": request.args.get("q"), "data": (await request.data).decode()}


@app.get("/sync")
def sync():
    return {"ok": True}


@app.websocket("/ws")
async def ws():
    while True:
        await websocket.send((await websocket.receive()).upper())
