"""dependency-injector: a container wired into this module."""

import sys

from dependency_injector import containers, providers
from dependency_injector.wiring import Provide, inject
from fastapi import Depends, FastAPI

NEEDS = ["fastapi", "dependency_injector"]


class Service:
    def __init__(self, word):
        self.word = word


class Container(containers.DeclarativeContainer):
    config = providers.Configuration()
    service = providers.Singleton(Service, word=config.word)


app = FastAPI()


@app.get("/")
@inject
async def root(service: Service = Depends(Provide[Container.service])):  # noqa: B008
    return {"ok": service.word}


container = Container()
container.config.word.from_value("42")
container.wire(modules=[sys.modules[__name__]])
