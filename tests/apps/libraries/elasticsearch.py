"""Elasticsearch: an async client at module top (no server: the refusal)."""

from elasticsearch import AsyncElasticsearch
from fastapi import FastAPI

NEEDS = ["fastapi", "elasticsearch", "aiohttp"]
client = AsyncElasticsearch("http://127.0.0.1:9", max_retries=0)
app = FastAPI()


@app.get("/")
async def root():
    try:
        await client.search(index="notes")
    except Exception as error:
        return {"ok": type(error).__name__}
