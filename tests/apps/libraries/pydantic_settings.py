"""pydantic-settings: settings read from the environment, cached, as FastAPI's manual does."""

from functools import lru_cache
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict

NEEDS = ["fastapi", "pydantic_settings"]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    name: str = "shop"
    debug: bool = False


@lru_cache
def settings() -> Settings:
    return Settings()


app = FastAPI()


@app.get("/")
async def root(found: Annotated[Settings, Depends(settings)]):
    return found
