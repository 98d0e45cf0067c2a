"""Strawberry: a GraphQL schema of decorated classes, in FastAPI."""

import asyncio
from collections.abc import AsyncGenerator

import strawberry
from fastapi import FastAPI
from strawberry.fastapi import GraphQLRouter

NEEDS = ["fastapi", "strawberry"]
CHECKS = [("POST", "/graphql", 200, '{"query": "{ hello(name: \\"x\\") { text } }"}')]


@strawberry.type
class Greeting:
    text: str


@strawberry.type
class Query:
    @strawberry.field
    async def hello(self, name: str) -> Greeting:
        await asyncio.sleep(0)
        return Greeting(text=f"hello {name}")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int) -> AsyncGenerator[int]:
        for number in range(to):
            yield number


app = FastAPI()
app.include_router(GraphQLRouter(strawberry.Schema(Query, subscription=Subscription)), prefix="/graphql")
