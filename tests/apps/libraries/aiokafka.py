"""aiokafka: a producer made in the lifespan (no broker: the refusal)."""

import contextlib
import logging

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from fastapi import FastAPI

NEEDS = ["fastapi", "aiokafka"]
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:9")
    try:
        await app.state.producer.start()
    except KafkaConnectionError as error:
        app.state.refused = type(error).__name__
    yield
    await app.state.producer.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": app.state.refused}
