"""asgi-correlation-id: an identifier in a context variable and the log."""

import logging

from asgi_correlation_id import CorrelationIdFilter, CorrelationIdMiddleware, correlation_id
from fastapi import FastAPI

NEEDS = ["fastapi", "asgi_correlation_id"]
handler = logging.StreamHandler()
handler.addFilter(CorrelationIdFilter())
logging.getLogger("shop").addHandler(handler)
app = FastAPI()
app.add_middleware(CorrelationIdMiddleware, generator=lambda: "0" * 32, validator=None)


@app.get("/")
async def root():
    return {"ok": correlation_id.get()}
