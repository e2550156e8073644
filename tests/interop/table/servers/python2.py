"""A server on version 2 of the Python SDK, with a tool that computes and one that asks a question in a round of input.

usage: python2.py stdio|PORT
"""

import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

CONFIRM = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}

server = MCPServer("python2")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
async def confirm(context: Context) -> str | InputRequiredResult:
    """Asks for a confirmation."""
    answer = (context.input_responses or {}).get("confirm")
    if answer is None:
        question = ElicitRequest(params=ElicitRequestFormParams(message="Continue?", requested_schema=CONFIRM))
        return InputRequiredResult(input_requests={"confirm": question}, request_state="asked")
    return "confirmed" if answer.content and answer.content["confirm"] else "declined"


if sys.argv[1] == "stdio":
    server.run(transport="stdio")
else:
    server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
