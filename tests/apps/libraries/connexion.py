"""Connexion: routes from an OpenAPI document, requests checked against it."""

from connexion import AsyncApp

NEEDS = ["connexion"]
CHECKS = [("GET", "/greet?name=x", 200), ("GET", "/greet", 400)]


async def greet(name):
    return {"ok": name}


document = {
    "openapi": "3.0.0",
    "info": {"title": "x", "version": "1"},
    "paths": {
        "/greet": {
            "get": {
                "operationId": f"{__name__}.greet",
                "parameters": [{"name": "name", "in": "query", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "x"}},
            }
        }
    },
}
app = AsyncApp(__name__)
app.add_api(document)
