"""Ariadne: a GraphQL schema and resolvers bound by name."""

from ariadne import QueryType, gql, make_executable_schema
from ariadne.asgi import GraphQL

NEEDS = ["ariadne"]
CHECKS = [("POST", "/", 200, '{"query": "{ hello(name: \\"x\\") }"}')]
query = QueryType()


@query.field("hello")
async def hello(_, info, name):
    return f"hello {name}"


app = GraphQL(make_executable_schema(gql("type Query { hello(name: String!): String! }"), query))
