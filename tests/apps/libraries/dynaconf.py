"""Dynaconf: settings at module top, loaded when they are first read."""

from dynaconf import Dynaconf
from fastapi import FastAPI

NEEDS = ["fastapi", "dynaconf"]
settings = Dynaconf(envvar_prefix="SHOP", NAME="shop")
app = FastAPI()


@app.get("/")
def root():
    with settings.using_env("development"):
        return {"ok": settings.NAME}
