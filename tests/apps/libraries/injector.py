"""Injector: singletons of a module, made at first use under a lock."""

from fastapi import FastAPI
from injector import Injector, Module, provider, singleton

NEEDS = ["fastapi", "injector"]


class Service:
    word = "42"


class Shop(Module):
    @singleton
    @provider
    def service(self) -> Service:
        return Service()


injector = Injector(Shop())
app = FastAPI()


@app.get("/")
def root():
    return {"ok": injector.get(Service).word, "same": injector.get(Service) is injector.get(Service)}
