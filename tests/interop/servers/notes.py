"""A server of resources and prompts on PyPI `mcp` 1.x or 2.x: over stdio, or over HTTP if a port is given."""

import sys

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer

from mcp.types import Completion

server = MCPServer("notes")


@server.resource("note://list", mime_type="application/json")
def notes() -> str:
    return '["milk", "tea"]'


@server.resource("note://{name}")
def note(name: str) -> str:
    return f"a note about {name}"


@server.prompt()
def sum_up(name: str) -> str:
    return f"Sum up {name}."


@server.completion()
async def complete(ref, argument, context):
    values = [name for name in ["milk", "tea"] if name.startswith(argument.value)]
    return Completion(values=values)


if len(sys.argv) > 1:
    port = int(sys.argv[1])
    if "FastMCP" in type(server).__name__:
        server.settings.port = port
        server.run("streamable-http")
    else:
        server.run("streamable-http", port=port)
else:
    server.run("stdio")
