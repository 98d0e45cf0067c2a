"""fastapi-users: JWT logins over SQLAlchemy's asyncio, passwords hashed in the request."""

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy

NEEDS = ["fastapi", "fastapi_users"]
CHECKS = [("GET", "/", 200), ("GET", "/me", 401), ("POST", "/register", 201, '{"email": "a@b.org", "password": "x"}')]


class User:
    id, email, hashed_password, is_active, is_superuser, is_verified = 1, "a@b.org", "", True, False, True


class Store:
    async def get_by_email(self, email):
        return None

    async def create(self, values):
        return User()


class Manager(IntegerIDMixin, BaseUserManager):
    pass


async def manager():
    yield Manager(Store())


backend = AuthenticationBackend(
    "jwt", BearerTransport("login"), lambda: JWTStrategy(secret="x" * 32, lifetime_seconds=60)
)
users = FastAPIUsers(manager, [backend])
app = FastAPI()
app.include_router(users.get_register_router(schemas.BaseUser[int], schemas.BaseUserCreate))
current = users.current_user()


@app.get("/")
async def root():
    return {"ok": bool(await backend.get_strategy().write_token(User()))}


@app.get("/me")
async def me(user=Depends(current)):  # noqa: B008
    return user.email
