"""Beanie: documents declared at module top (no server: models only)."""

from beanie import Document, Indexed
from fastapi import FastAPI

NEEDS = ["fastapi", "beanie"]


class Product(Document):
    name: Indexed(str)
    price: float

    class Settings:
        name = "products"


app = FastAPI()


@app.get("/")
async def root():
    return {"ok": sorted(Product.model_fields), "name": Product.model_construct(name="x", price=1.0).name}
