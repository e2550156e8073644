"""A server on PyPI `mcp` 1.x or 2.x with tools that use what a client can do, over stdio, or over HTTP if a port is given.
On 1.x, it lists its tools in pages.

usage: protocol.py FOLDER [PORT]

FOLDER gets a file `cancelled` when a call is cancelled. With TOKEN in the environment, HTTP requests need that token."""

import json
import os
import pathlib
import sys

import anyio
from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.subscriptions import InMemorySubscriptionBus
    from mcp_types import AudioContent, ImageContent, ResourceLink

    GENERATION = 2
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP as MCPServer
    from mcp.types import AudioContent, ImageContent, ListToolsRequest, ListToolsResult, ResourceLink, ServerResult

    GENERATION = 1

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

FOLDER = pathlib.Path(sys.argv[1])
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else None
SUBSCRIBERS = []


class Verifier:
    """Accepts the token of the environment."""

    async def verify_token(self, token):
        return AccessToken(token=token, client_id="test", scopes=[]) if token == os.environ["TOKEN"] else None


options = {}
if GENERATION == 2:

    class Bus(InMemorySubscriptionBus):
        """Knows how many subscriptions there were."""

        def subscribe(self, listener):
            SUBSCRIBERS.append(listener)
            return super().subscribe(listener)

    options["subscriptions"] = Bus()
if "TOKEN" in os.environ:
    address = f"http://127.0.0.1:{PORT}"
    options["auth"] = AuthSettings(issuer_url=address, resource_server_url=f"{address}/mcp")
    options["token_verifier"] = Verifier()
server = MCPServer("protocol", instructions="Call `grow` before `grown`.", **options)
STATE = {"subscribers": 0}


@server.resource("job://1", mime_type="application/json")
def job() -> str:
    return json.dumps({"done": len(SUBSCRIBERS) > STATE["subscribers"]})


@server.tool(structured_output=False)
def start() -> list[ResourceLink]:
    """Starts a job that is done once a client has subscribed to it."""
    STATE["subscribers"] = len(SUBSCRIBERS)
    return [ResourceLink(type="resource_link", name="job", uri="job://1")]


@server.tool()
def meta(context: Context) -> str:
    """Returns the `_meta` of the call."""
    return repr(context.request_context.meta)


@server.tool(structured_output=False)
def media() -> list[ImageContent | AudioContent]:
    """Returns an image and a sound."""
    return [
        ImageContent(type="image", data="aW1hZ2U=", mimeType="image/png"),
        AudioContent(type="audio", data="c291bmQ=", mimeType="audio/wav"),
    ]


@server.tool()
async def chat(context: Context) -> str:
    """Logs a detail and an error."""
    await context.debug("a detail")
    await context.error("an error")
    return "logged"


@server.tool()
async def count(context: Context) -> str:
    """Reports progress."""
    if GENERATION == 1:
        await context.session.send_ping()
    for number in range(1, 4):
        await context.report_progress(number, 3, f"step {number}")
    return "counted"


def grown() -> str:
    return "new"


@server.tool()
async def grow(context: Context) -> str:
    """Adds the tool `grown`."""
    server.add_tool(grown)
    if GENERATION == 2:
        await context.notify_tools_changed()
    else:
        await context.session.send_tool_list_changed()
    return "grown"


class Name(BaseModel):
    name: str


@server.tool()
async def greet(context: Context) -> str:
    """Asks for a name during the call, which the SDK refuses on modern connections."""
    answer = await context.elicit("who?", Name)
    return f"hello {answer.data.name}" if answer.action == "accept" else "hello"


@server.tool()
async def wait() -> str:
    """Waits until the call is cancelled."""
    try:
        await anyio.sleep(3600)
    except anyio.get_cancelled_exc_class():
        (FOLDER / "cancelled").touch()
        raise
    return "waited"


if GENERATION == 1:

    @server.tool()
    async def sign_in(context: Context) -> str:
        """Asks a person to open a page, and reports it as completed."""
        answers = []

        async def complete():
            while not answers:
                await context.session.send_elicit_complete("e1", related_request_id=context.request_id)
                await anyio.sleep(0.2)

        async with anyio.create_task_group() as group:
            group.start_soon(complete)
            answers.append(await context.elicit_url("log in", "https://example.org/login", "e1"))
        return answers[0].action

    async def list_one(request):
        """Lists one tool on each page."""
        tools = await server.list_tools()
        cursor = request.params.cursor if request and request.params else None
        number = int(cursor or 0)
        following = str(number + 1) if number + 1 < len(tools) else None
        return ServerResult(ListToolsResult(tools=[tools[number]], nextCursor=following))

    # The first generation of the SDK has no setting for it.
    server._mcp_server.request_handlers[ListToolsRequest] = list_one


if PORT is None:
    server.run("stdio")
elif GENERATION == 1:
    server.settings.port = PORT
    server.run("streamable-http")
else:
    server.run("streamable-http", port=PORT)
