"""MCP SDK: a server with one tool, streamable HTTP without sessions."""

try:
    from mcp.server.mcpserver import MCPServer

    server, options = MCPServer("shop"), {"stateless_http": True, "json_response": True}
except ImportError:  # before version 2
    from mcp.server.fastmcp import FastMCP

    server, options = FastMCP("shop", stateless_http=True, json_response=True), {}

NEEDS = ["mcp"]
CHECKS = [
    (
        "POST",
        "/mcp",
        200,
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"x": 4, "y": 2}}}',
    )
]


@server.tool()
async def add(x: int, y: int) -> int:
    return x + y


app = server.streamable_http_app(**options)
