"""BlackSheep: handlers registered on one router, a service of its container."""

from dataclasses import dataclass

from blacksheep import Application, FromJSON, WebSocket, json

NEEDS = ["blacksheep"]
PROCESSES = True  # each start, of the application or a copy, adds its routes to the one default router: RouteDuplicate
CHECKS = [("GET", "/", 200), ("POST", "/", 200, '{"name": "x"}'), ("WS", "/ws", ["a"], ["A"])]
app = Application()


@dataclass
class Item:
    name: str


class Service:
    word = "42"


app.services.add_singleton(Service)


@app.router.get("/")
async def root(service: Service):
    return json({"ok": service.word})


@app.router.post("/")
async def items(data: FromJSON[Item]):
    return json({"ok": data.value.name})


@app.router.ws("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text((await websocket.receive_text()).upper())
