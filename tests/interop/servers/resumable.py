"""A server over the Python SDK 1.x with an event store: work that takes a while, questions, and the tools of an agent.

usage: resumable.py PORT
"""

import asyncio
import sys

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import ClientCapabilities, JSONRPCMessage, SamplingCapability, SamplingMessage, TextContent
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


class Price(BaseModel):
    confirm: bool


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


@server.tool(structured_output=False)
async def travel_agent(destination: str, context: Context) -> str:
    await context.report_progress(1, 2, "found a hotel")
    answer = await context.elicit(f"Book a trip to {destination} for an estimated 1200 EUR?", Price)
    is_booked = answer.action == "accept" and answer.data.confirm
    # Booking takes a moment.
    await asyncio.sleep(0.5)
    await context.report_progress(2, 2, "done")
    return f"booked a trip to {destination}" if is_booked else f"booked nothing in {destination}"


@server.tool(structured_output=False)
async def research_agent(topic: str, context: Context) -> str:
    await context.report_progress(1, 2, "read a book")
    can_sample = context.session.check_client_capability(ClientCapabilities(sampling=SamplingCapability()))
    summary = "no summary"
    if can_sample:
        request = SamplingMessage(role="user", content=TextContent(type="text", text=f"Summarize a book on {topic}."))
        reply = await context.session.create_message([request], max_tokens=100)
        summary = reply.content.text
    await context.report_progress(2, 2, "done")
    return f"a book on {topic}: {summary}"


server.run(transport="streamable-http")
