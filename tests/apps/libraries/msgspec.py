"""msgspec: a struct decoded and encoded by shared decoders."""

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

NEEDS = ["starlette", "msgspec"]
CHECKS = [("POST", "/", 200, '{"name": "x", "tags": ["a", "b"]}')]


class Item(msgspec.Struct):
    name: str
    tags: list[str] = []


decoder, encoder = msgspec.json.Decoder(Item), msgspec.json.Encoder()


async def root(request):
    return Response(encoder.encode(decoder.decode(await request.body())), media_type="application/json")


app = Starlette(routes=[Route("/", root, methods=["POST"])])
