"""structlog: configured once, context variables bound per request."""

import logging

import structlog
from fastapi import FastAPI

NEEDS = ["fastapi", "structlog"]
structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer(sort_keys=True)],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
logging.basicConfig(level=logging.WARNING)
log = structlog.get_logger()
app = FastAPI()


@app.middleware("http")
async def bind(request, call_next):
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(path=request.url.path)
    return await call_next(request)


@app.get("/")
async def root():
    log.info("asked")
    return structlog.contextvars.get_contextvars()
