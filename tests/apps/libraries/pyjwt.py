"""PyJWT: bearer tokens checked by a dependency, as FastAPI's tutorial does."""

from typing import Annotated

import jwt
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

NEEDS = ["fastapi", "jwt"]
CHECKS = [("GET", "/", 200), ("GET", "/me", 401)]
bearer = HTTPBearer()
app = FastAPI()


@app.get("/")
async def root():
    token = jwt.encode({"sub": "x"}, "k" * 32, algorithm="HS256")
    return jwt.decode(token, "k" * 32, algorithms=["HS256"])


@app.get("/me")
async def me(token: Annotated[object, Depends(bearer)]):
    return token
