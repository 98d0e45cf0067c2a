"""passlib: a context at module top, which loads its handlers when they are first used."""

from fastapi import FastAPI
from passlib.context import CryptContext

NEEDS = ["fastapi", "passlib"]
context = CryptContext(schemes=["pbkdf2_sha256"], pbkdf2_sha256__rounds=1000)
app = FastAPI()


@app.get("/")
def root():
    return {"ok": context.verify("secret", context.hash("secret"))}
