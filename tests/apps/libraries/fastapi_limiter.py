"""fastapi-limiter: a limiter built on pyrate-limiter, asked per request."""

from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, Limiter, Rate

NEEDS = ["fastapi", "fastapi_limiter", "pyrate_limiter"]
# Without blocking=True a request is refused while another thread has the limiter's lock, whatever the rate is.
limiter = Limiter(Rate(100_000, Duration.MINUTE))
app = FastAPI()


@app.get("/", dependencies=[Depends(RateLimiter(limiter=limiter, blocking=True))])
async def root():
    return {"ok": True}
