"""Django, in one file: asynchronous and synchronous views, middleware, streaming, the admin with its static files."""

import asyncio
import os
import threading

import django
from django.conf import settings

settings.configure(
    DEBUG=True,
    SECRET_KEY="not secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("POUNCE_TEST_DB", ":memory:")}
    },
    STATIC_URL="/static/",
    USE_TZ=True,
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


async def async_view(request):
    await asyncio.sleep(0.001)
    return JsonResponse({"kind": "async"})


def sync_view(request):
    return JsonResponse({"kind": "sync", "thread": threading.current_thread().name})


async def users(request):
    return JsonResponse({"users": [user.username async for user in User.objects.order_by("username")]})


async def streaming(request):
    async def parts():
        for number in range(10):
            yield f"{number}\n"
            await asyncio.sleep(0.001)

    return StreamingHttpResponse(parts())


def echo(request):
    return HttpResponse(request.body)


echo.csrf_exempt = True

urlpatterns = [
    path("admin/", admin.site.urls),
    path("async", async_view),
    path("sync", sync_view),
    path("users", users),
    path("stream", streaming),
    path("echo", echo),
]

app = ASGIStaticFilesHandler(get_asgi_application())


def prepare():
    """Makes the database. For the test, before the server starts."""
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("tester", "", "secret")
