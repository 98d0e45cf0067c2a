"""python-jose: a token made and read."""

from fastapi import FastAPI
from jose import jwt

NEEDS = ["fastapi", "jose"]
app = FastAPI()


@app.get("/")
def root():
    token = jwt.encode({"sub": "x"}, "secret", algorithm="HS256")
    return jwt.decode(token, "secret", algorithms=["HS256"])
