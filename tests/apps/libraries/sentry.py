"""Sentry: its SDK set up at module top, with a transport that keeps what it gets."""

import sentry_sdk
from fastapi import FastAPI
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.transport import Transport

NEEDS = ["fastapi", "sentry_sdk"]
CHECKS = [("GET", "/", 200), ("GET", "/seen", 200)]
seen = []


class Kept(Transport):
    def capture_envelope(self, envelope):
        seen.append(envelope)


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    transport=Kept,
    traces_sample_rate=1.0,
    auto_enabling_integrations=False,  # they would import every library that it knows of this environment's hundred
    integrations=[StarletteIntegration(), FastApiIntegration()],
)
app = FastAPI()


@app.get("/")
async def root():
    sentry_sdk.capture_message("hello")
    return {"ok": sentry_sdk.get_client().is_active()}


@app.get("/seen")
def anything():
    return {"ok": sentry_sdk.get_current_span() is not None}
