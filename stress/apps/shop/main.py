"""The application."""

import contextlib

from fastapi import FastAPI

from shop.database import Base, engine
from shop.routers import about, orders, products, reviews, users


@contextlib.asynccontextmanager
async def lifespan(app):
    Base.metadata.create_all(engine)
    yield


app = FastAPI(title="Shop", lifespan=lifespan)
for each in (users, products, orders, reviews, about):
    app.include_router(each.router)
