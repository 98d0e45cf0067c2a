"""WhiteNoise around Django: static files on sync threads."""

import pathlib
import tempfile

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

NEEDS = ["django", "whitenoise"]
CHECKS = [("GET", "/", 200), ("GET", "/static/a.txt", 200)]
folder = tempfile.TemporaryDirectory()
pathlib.Path(folder.name, "a.txt").write_text("hello")
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="x",
    STATIC_URL="/static/",
    STATIC_ROOT=folder.name,
    MIDDLEWARE=["whitenoise.middleware.WhiteNoiseMiddleware"],
)
urlpatterns = [path("", lambda request: JsonResponse({"ok": True}))]
app = get_asgi_application()
