"""A server over the Python SDK 1.x on HTTP+SSE of 2024-11-05.

usage: http_sse.py PORT
"""

import sys

from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

server = FastMCP("http-sse", host="127.0.0.1", port=int(sys.argv[1]))


class Name(BaseModel):
    name: str


@server.tool()
async def greet(context: Context) -> str:
    answer = await context.elicit("who?", Name)
    return f"hello {answer.data.name}" if answer.action == "accept" else "hello"


@server.tool()
async def count(context: Context) -> str:
    for step in range(3):
        await context.report_progress(step + 1, 3)
    return "three"


server.run(transport="sse")
