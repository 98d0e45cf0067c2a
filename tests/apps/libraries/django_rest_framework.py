"""Django REST framework: a serializer and a sync view."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

NEEDS = ["django", "rest_framework"]
CHECKS = [("POST", "/", 200, '{"name": "x", "price": 2}'), ("POST", "/", 400, '{"name": "x"}')]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="x",
    LOGGING={"version": 1, "disable_existing_loggers": False, "loggers": {"django.request": {"level": "CRITICAL"}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)
app = get_asgi_application()

from rest_framework import serializers  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402


class ItemSerializer(serializers.Serializer):
    name = serializers.CharField()
    price = serializers.IntegerField()


@api_view(["POST"])
def items(request):
    item = ItemSerializer(data=request.data)
    item.is_valid(raise_exception=True)
    return Response(item.data)


urlpatterns = [path("", items)]
