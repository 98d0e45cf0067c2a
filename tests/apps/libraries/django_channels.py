"""Django + Channels: async and sync views, a consumer in a group of the in-memory layer."""

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

NEEDS = ["django", "channels"]
CHECKS = [("GET", "/", 200), ("GET", "/sync", 200), ("WS", "/ws", ["a", "b"], ["A", "B"])]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="x",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
http = get_asgi_application()


async def root(request):
    return JsonResponse({"ok": request.path})


def sync(request):
    return JsonResponse({"ok": "sync"})


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add(f"own-{self.channel_name[-10:]}", self.channel_name)
        await self.accept()

    async def receive(self, text_data=None, bytes_data=None):
        group = f"own-{self.channel_name[-10:]}"
        await self.channel_layer.group_send(group, {"type": "shout", "text": text_data.upper()})

    async def shout(self, event):
        await self.send(event["text"])


urlpatterns = [path("", root), path("sync", sync)]
app = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("ws", Echo.as_asgi())])})
