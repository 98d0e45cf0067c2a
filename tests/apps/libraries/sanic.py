"""Sanic: its app is one per name and process."""

from sanic import Sanic, json

NEEDS = ["sanic"]
PROCESSES = True
CHECKS = [("GET", "/", 200), ("POST", "/", 200, '{"a": 1}')]
app = Sanic("shop")


@app.get("/")
async def root(request):
    return json({"ok": request.app.name})


@app.post("/")
async def echo(request):
    return json(request.json)
