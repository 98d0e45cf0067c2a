"""What the shop says about itself. VERSION is what the bench edits."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.database import session
from shop.models import Order, Product, Review, User
from shop.schemas import ProductOut, Settings, Statistics

VERSION = 0

router = APIRouter(tags=["about"])
Open = Annotated[Session, Depends(session)]


@router.get("/version")
async def version() -> int:
    return VERSION


@router.get("/health", response_class=PlainTextResponse)
async def health() -> str:
    return "ok"


@router.get("/settings")
async def settings() -> Settings:
    return Settings()


@router.get("/statistics")
def statistics(opened: Open) -> Statistics:
    tables = {"users": User, "products": Product, "orders": Order, "reviews": Review}
    return Statistics(
        **{name: opened.scalar(select(func.count()).select_from(table)) for name, table in tables.items()}
    )


@router.get("/search")
def search(words: str, opened: Open) -> list[ProductOut]:
    rows = opened.scalars(select(Product).where(Product.name.contains(words)).limit(20))
    return [ProductOut.model_validate(row) for row in rows]


@router.get("/events")
async def events() -> StreamingResponse:
    async def stream():
        while True:
            yield f"data: {VERSION}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(stream(), media_type="text/event-stream")
