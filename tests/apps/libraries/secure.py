"""secure: header fields set by a middleware."""

from fastapi import FastAPI
from secure import Secure

NEEDS = ["fastapi", "secure"]
secure = Secure.with_default_headers()
app = FastAPI()


@app.middleware("http")
async def protect(request, call_next):
    answer = await call_next(request)
    await secure.set_headers_async(answer)
    return answer


@app.get("/")
async def root():
    return {"ok": sorted(secure.headers)}
