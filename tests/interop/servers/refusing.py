"""A server over the Python SDK 2.x whose tool asks a person as in the first generation, which modern connections refuse."""

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("refusing")


class Name(BaseModel):
    name: str


@server.tool()
async def greet(context: Context) -> str:
    answer = await context.elicit("who?", Name)
    return f"hello {answer.data.name}" if answer.action == "accept" else "hello"


server.run("stdio")
