"""channels_redis, core layer: the queue-like layer in a consumer of Django Channels."""

import os

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

NEEDS = ["django", "channels", "channels_redis"]
PROCESSES = True
SERVICES = ["redis"]
CHECKS = [("WS", "/ws", ["a", "b"], ["A", "B"])]
LAYER = {
    "BACKEND": "channels_redis.core.RedisChannelLayer",
    "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
}
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", CHANNEL_LAYERS={"default": LAYER})
http = get_asgi_application()


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        self.own = f"own-{self.channel_name[-10:]}"
        await self.channel_layer.group_add(self.own, self.channel_name)
        await self.accept()

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send(self.own, {"type": "shout", "text": text_data.upper()})

    async def shout(self, event):
        await self.send(event["text"])


urlpatterns = []
app = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("ws", Echo.as_asgi())])})
