"""argon2-cffi: a hash made and checked on a helper thread."""

from argon2 import PasswordHasher
from fastapi import FastAPI

NEEDS = ["fastapi", "argon2"]
hasher = PasswordHasher(time_cost=1, memory_cost=1024)
stored = hasher.hash("secret")
app = FastAPI()


@app.get("/")
def root():
    return {"ok": hasher.verify(stored, "secret")}
