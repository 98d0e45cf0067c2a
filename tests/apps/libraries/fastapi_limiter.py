"""fastapi-limiter: a limiter built on pyrate-limiter, asked per request."""

from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, Limiter, Rate

NEEDS = ["fastapi", "fastapi_limiter", "pyrate_limiter"]
limiter = Limiter(Rate(100_000, Duration.MINUTE))
app = FastAPI()


@app.get("/", dependencies=[Depends(RateLimiter(limiter=limiter))])
async def root():
    return {"ok": True}
