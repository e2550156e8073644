"""A stdio server on the low-level API of PyPI `mcp`, as it has been since its first versions."""

import asyncio

import mcp.types as types
from mcp.server import Server
from mcp.server.stdio import stdio_server

server = Server("lowlevel")


@server.list_tools()
async def list_tools():
    return [types.Tool(name="greet", description="Greets.", inputSchema={"type": "object", "properties": {}})]


@server.call_tool()
async def call_tool(name, arguments):
    return [types.TextContent(type="text", text="hello")]


async def main():
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


asyncio.run(main())
