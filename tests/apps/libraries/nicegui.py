"""NiceGUI: mounted on FastAPI; its app, clients and timers are one per process."""

from fastapi import FastAPI
from nicegui import ui

NEEDS = ["fastapi", "nicegui"]
PROCESSES = True
app = FastAPI()


@app.get("/api")
async def api():
    return {"ok": True}


@ui.page("/")
def page():
    ui.label("hello")


CHECKS = [("GET", "/api", 200)]
ui.run_with(app, storage_secret="x")
