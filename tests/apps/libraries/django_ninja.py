"""Django Ninja: an API object at module top, which registers itself once."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

NEEDS = ["django", "ninja"]
CHECKS = [("GET", "/api/add?x=40&y=2", 200), ("POST", "/api/items", 200, '{"name": "x"}')]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
app = get_asgi_application()

from ninja import NinjaAPI, Schema  # noqa: E402

api = NinjaAPI()


class Item(Schema):
    name: str


@api.get("/add")
async def add(request, x: int, y: int):
    return {"ok": x + y}


@api.post("/items")
def items(request, item: Item):
    return item


urlpatterns = [path("api/", api.urls)]
