"""Dishka: a container of the app's, scopes per request, closed by the lifespan."""

import contextlib

from dishka import Provider, Scope, make_async_container
from dishka.integrations.fastapi import DishkaRoute, FromDishka, setup_dishka
from fastapi import APIRouter, FastAPI

NEEDS = ["fastapi", "dishka"]


class Service:
    word = "42"


provider = Provider(scope=Scope.REQUEST)
provider.provide(Service)
router = APIRouter(route_class=DishkaRoute)


@router.get("/")
async def root(service: FromDishka[Service]):
    return {"ok": service.word}


@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    await app.state.dishka_container.close()


app = FastAPI(lifespan=lifespan)
app.include_router(router)
setup_dishka(make_async_container(provider), app)
