"""Authlib: an OAuth client registered at module top, its redirect."""

from authlib.integrations.starlette_client import OAuth
from fastapi import FastAPI, Request
from starlette.middleware.sessions import SessionMiddleware

NEEDS = ["fastapi", "authlib", "itsdangerous", "httpx"]
CHECKS = [("GET", "/", 200)]
oauth = OAuth()
oauth.register("shop", client_id="x", client_secret="y", authorize_url="https://id.example/authorize")
app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key="x")


@app.get("/")
async def root(request: Request):
    answer = await oauth.shop.authorize_redirect(request, "https://shop.example/back", state="s")
    return {"ok": answer.status_code, "to": answer.headers["location"].partition("?")[0]}
