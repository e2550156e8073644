"""A server on FastMCP, of any generation, with a tool that computes and one that asks a question.

usage: fastmcp_server.py stdio
       fastmcp_server.py http|sse PORT
"""

import sys

from fastmcp import Context, FastMCP

server = FastMCP("fastmcp-server")


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool
async def ask(context: Context) -> str:
    """Asks for a color."""
    answer = await context.elicit("Which color?", response_type=str)
    return answer.data if answer.action == "accept" else answer.action


if sys.argv[1] == "stdio":
    server.run(transport="stdio")
else:
    server.run(transport=sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))
