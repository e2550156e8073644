"""An MCP agent over stdio that repeats its secrets wherever it can. Standard library only."""

import os
import sys

from stdio import send, serve, text

KEY = os.environ["SERVICE_KEY"]
REGION = os.environ["REGION"]


def call(request):
    params = request["params"]
    name, said = params["name"], "%s in %s" % (KEY, REGION)
    if name == "dies":
        sys.stderr.write("invalid key %s\n" % KEY)
        sys.stderr.flush()
        os._exit(1)
    if name == "refuses":
        return {"error": {"code": -32000, "message": said}}
    if name == "fails":
        return {"result": {**text(said), "isError": True}}
    token = params["_meta"]["progressToken"]
    send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": said}})
    send({"method": "notifications/message", "params": {"level": "error", "data": {KEY: [said]}}})
    schema = {"type": "object", "properties": {"f": {"type": "string", "description": said}}}
    send({"id": "q", "method": "elicitation/create", "params": {"message": said, "requestedSchema": schema}})
    return {"result": {**text(said), "structuredContent": {"key": said, KEY: REGION}}}


TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("returns", "fails", "refuses", "dies")]
serve({"name": "leaks " + KEY, "version": "1"}, TOOLS, call)
