"""A server over the Python SDK 1.x with an event store: work that takes a while, and a question.

usage: resumable.py PORT
"""

import asyncio
import sys

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import JSONRPCMessage
from pydantic import BaseModel


class Events(EventStore):
    """Keeps all events in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self.events.append((stream_id, message))
        return str(len(self.events) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        if last >= len(self.events):
            return None
        stream_id, _ = self.events[last]
        for number, (stream, message) in list(enumerate(self.events))[last + 1 :]:
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


class Person(BaseModel):
    name: str


server = FastMCP("resumable", host="127.0.0.1", port=int(sys.argv[1]), event_store=Events(), log_level="WARNING")


@server.tool(structured_output=False)
async def work(steps: int, seconds: float, context: Context) -> str:
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds / steps)
        await context.report_progress(step, steps)
    return "done"


@server.tool(structured_output=False)
async def ask(context: Context) -> str:
    answer = await context.elicit("who?", Person)
    return answer.model_dump_json()


server.run(transport="streamable-http")
