"""aiohttp: a ClientSession in the lifespan, and a server of its own beside."""

import contextlib

import aiohttp
from aiohttp import web
from fastapi import FastAPI, Request

NEEDS = ["fastapi", "aiohttp"]


@contextlib.asynccontextmanager
async def lifespan(app):
    async def answer(request):
        return web.Response(text="42")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as app.state.session:
        app.state.port = runner.addresses[0][1]
        yield
    await runner.cleanup()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root(request: Request):
    async with request.app.state.session.get(f"http://127.0.0.1:{request.app.state.port}/") as answer:
        return {"ok": await answer.text()}
