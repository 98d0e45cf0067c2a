"""svcs: a registry of the lifespan's, a container per request."""

import svcs
from fastapi import FastAPI

NEEDS = ["fastapi", "svcs"]


class Service:
    word = "42"


@svcs.fastapi.lifespan
async def lifespan(app: FastAPI, registry: svcs.Registry):
    registry.register_factory(Service, Service)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root(services: svcs.fastapi.DepContainer):
    return {"ok": (await services.aget(Service)).word}
