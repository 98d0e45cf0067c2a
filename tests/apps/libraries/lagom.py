"""Lagom: a container at module top, resolved per request."""

from fastapi import FastAPI
from lagom import Container, Singleton
from lagom.integrations.fast_api import FastApiIntegration

NEEDS = ["fastapi", "lagom"]


class Service:
    word = "42"


container = Container()
container[Service] = Singleton(Service)
depends = FastApiIntegration(container)
app = FastAPI()


@app.get("/")
async def root(service=depends.depends(Service)):  # noqa: B008
    return {"ok": service.word}
