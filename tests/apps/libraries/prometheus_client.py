"""prometheus_client: metrics at module top, in one registry for the process."""

from fastapi import FastAPI
from prometheus_client import Counter, Histogram, make_asgi_app
from starlette.responses import PlainTextResponse

NEEDS = ["fastapi", "prometheus_client"]
CHECKS = [("GET", "/", 200), ("GET", "/names", 200)]
REQUESTS = Counter("shop_requests", "Requests", ["path"])
SECONDS = Histogram("shop_seconds", "Seconds")
app = FastAPI()
app.mount("/metrics", make_asgi_app())


@app.get("/")
async def root():
    with SECONDS.time():
        REQUESTS.labels("/").inc()
    return {"ok": True}


@app.get("/names", response_class=PlainTextResponse)
async def names():
    from prometheus_client import REGISTRY

    return " ".join(sorted(family.name for family in REGISTRY.collect() if family.name.startswith("shop")))
