"""Anthropic: an async client at module top, a request without a server."""

import anthropic
from fastapi import FastAPI

NEEDS = ["fastapi", "anthropic"]
client = anthropic.AsyncAnthropic(api_key="x", base_url="http://127.0.0.1:9", max_retries=0)
app = FastAPI()


@app.get("/")
async def root():
    try:
        await client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    except anthropic.APIConnectionError as error:
        return {"ok": type(error).__name__}
