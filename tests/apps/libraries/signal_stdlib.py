"""signal: a handler set at module top, as in the main program."""

import signal

from fastapi import FastAPI

NEEDS = ["fastapi"]
heard = []
signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
app = FastAPI()


@app.get("/")
async def root():
    return {"ok": callable(signal.getsignal(signal.SIGUSR2))}
