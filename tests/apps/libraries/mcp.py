"""MCP SDK: a server with one tool, streamable HTTP without sessions."""

from mcp.server.mcpserver import MCPServer

NEEDS = ["mcp"]
CHECKS = [
    (
        "POST",
        "/mcp",
        200,
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"x": 4, "y": 2}}}',
    )
]
server = MCPServer("shop")


@server.tool()
async def add(x: int, y: int) -> int:
    return x + y


app = server.streamable_http_app(stateless_http=True, json_response=True)
