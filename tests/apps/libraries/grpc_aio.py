"""grpc.aio: a server and a channel in the lifespan; its poller is one per process."""

import contextlib

import grpc.aio
from fastapi import FastAPI

NEEDS = ["fastapi", "grpc"]


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        async def echo(request, context):
            return request.upper()

        return grpc.unary_unary_rpc_method_handler(echo)


@contextlib.asynccontextmanager
async def lifespan(app):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        app.state.echo = channel.unary_unary("/shop/Echo")
        yield
    await server.stop(0)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"ok": (await app.state.echo(b"hello")).decode()}
