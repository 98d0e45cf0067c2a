"""Graphene: a GraphQL schema of classes, executed per request."""

import graphene
from fastapi import FastAPI

NEEDS = ["fastapi", "graphene"]


class Query(graphene.ObjectType):
    hello = graphene.String(name=graphene.String(required=True))

    async def resolve_hello(self, info, name):
        return f"hello {name}"


schema = graphene.Schema(query=Query)
app = FastAPI()


@app.get("/")
async def root():
    return (await schema.execute_async('{ hello(name: "x") }')).data
