"""fastapi-pagination: pages of a list, added to the app."""

from fastapi import FastAPI
from fastapi_pagination import Page, add_pagination, paginate

NEEDS = ["fastapi", "fastapi_pagination"]
CHECKS = [("GET", "/?page=2&size=3", 200)]
app = FastAPI()


@app.get("/")
async def root() -> Page[int]:
    return paginate(list(range(10)))


add_pagination(app)
