"""Typer: commands at module top beside the app, one run per request."""

import typer
from fastapi import FastAPI
from typer.testing import CliRunner

NEEDS = ["fastapi", "typer"]
cli = typer.Typer()
app = FastAPI()


@cli.command()
def greet(name: str):
    typer.echo(f"hello {name}")


@app.get("/")
async def root():
    return {"commands": [command.callback.__name__ for command in cli.registered_commands], "ok": CliRunner is not None}
