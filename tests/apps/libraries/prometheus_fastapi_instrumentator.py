"""prometheus-fastapi-instrumentator: metrics of every route."""

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator

NEEDS = ["fastapi", "prometheus_fastapi_instrumentator"]
app = FastAPI()


@app.get("/")
async def root():
    return {"ok": True}


Instrumentator().instrument(app).expose(app)
