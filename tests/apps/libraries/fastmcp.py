"""FastMCP: a server with one tool, mounted as its manual says, without sessions."""

from fastmcp import FastMCP

NEEDS = ["fastmcp"]
CHECKS = [
    (
        "POST",
        "/mcp",
        200,
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"x": 4, "y": 2}}}',
    )
]
server = FastMCP("shop")


@server.tool
async def add(x: int, y: int) -> int:
    return x + y


app = server.http_app(path="/mcp", stateless_http=True, json_response=True)
