"""Dramatiq: actors on a stub broker, with a worker's threads beside."""

import dramatiq
from dramatiq.brokers.stub import StubBroker
from fastapi import FastAPI

NEEDS = ["fastapi", "dramatiq"]
broker = StubBroker()
dramatiq.set_broker(broker)
app = FastAPI()


@dramatiq.actor
def work(number):
    return number


@app.get("/")
def root():
    return {"ok": work.send(1).actor_name}
