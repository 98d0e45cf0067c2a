"""A Starlette application with Sentry and OpenTelemetry around it, both sending into memory."""

import asyncio

import sentry_sdk
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.asyncio import AsyncioIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

events = []
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))


def keep(event, hint):
    events.append(event["exception"]["values"][-1]["type"])
    return


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    before_send=keep,
    integrations=[AsyncioIntegration(), StarletteIntegration()],
    # Else it imports every library it finds installed: seconds, and greenlet turns the GIL back on.
    auto_enabling_integrations=False,
    traces_sample_rate=0.0,
)


async def index(request):
    await asyncio.sleep(0.001)
    return JSONResponse({"ok": True})


async def broken(request):
    raise ZeroDivisionError


async def seen(request):
    return JSONResponse({"events": events, "spans": [span.name for span in spans.get_finished_spans()]})


app = OpenTelemetryMiddleware(
    Starlette(routes=[Route("/", index), Route("/broken", broken), Route("/seen", seen)]), tracer_provider=provider
)
