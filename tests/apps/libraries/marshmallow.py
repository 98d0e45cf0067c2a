"""marshmallow: schemas are registered by name, and looked up by it."""

from marshmallow import Schema, fields
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

NEEDS = ["starlette", "marshmallow"]
CHECKS = [("POST", "/", 200, '{"title": "x", "author": {"name": "y"}}')]


class Author(Schema):
    name = fields.Str(required=True)
    books = fields.List(fields.Nested("Book", exclude=("author",)))


class Book(Schema):
    title = fields.Str(required=True)
    author = fields.Nested("Author")


async def root(request):
    return JSONResponse(Book().dump(Book().load(await request.json())))


app = Starlette(routes=[Route("/", root, methods=["POST"])])
