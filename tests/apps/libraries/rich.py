"""Rich: a console at module top, its handler on the root logger."""

import io
import logging

from fastapi import FastAPI
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

NEEDS = ["fastapi", "rich"]
logging.basicConfig(handlers=[RichHandler(console=Console(file=io.StringIO()))])
app = FastAPI()


@app.get("/")
def root():
    table = Table("a")
    table.add_row("b")
    console = Console(file=io.StringIO(), width=20)
    console.print(table)
    logging.getLogger(__name__).warning("printed")
    return {"ok": console.file.getvalue()}
