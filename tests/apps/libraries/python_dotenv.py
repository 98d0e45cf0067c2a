"""python-dotenv and click: settings of a file at module top, a command beside the app."""

import io
import os

import click
from dotenv import load_dotenv
from fastapi import FastAPI

NEEDS = ["fastapi", "dotenv", "click"]
load_dotenv(stream=io.StringIO("SHOP_WORD=42"))
app = FastAPI()


@click.command()
@click.option("--name")
def greet(name):
    click.echo(name)


@app.get("/")
async def root():
    return {"ok": os.environ["SHOP_WORD"], "command": greet.name}
