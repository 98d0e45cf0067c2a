"""OpenAI: an async client at module top; brings sniffio, which looks for a loop."""

import httpx
from fastapi import FastAPI
from openai import AsyncOpenAI

NEEDS = ["fastapi", "openai", "sniffio"]


async def upstream(request):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
    return httpx.Response(
        200, json={"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    )


client = AsyncOpenAI(
    api_key="x", base_url="http://127.0.0.1:9", http_client=httpx.AsyncClient(transport=httpx.MockTransport(upstream))
)
app = FastAPI()


@app.get("/")
async def root():
    answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    return {"ok": answer.choices[0].message.content}
