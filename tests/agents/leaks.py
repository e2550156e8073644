"""An MCP agent over stdio that repeats its secrets wherever it can. Standard library only."""

import json
import os
import sys

KEY = os.environ["SERVICE_KEY"]
REGION = os.environ["REGION"]


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


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
        return {"result": {"content": [{"type": "text", "text": said}], "isError": True}}
    token = params["_meta"]["progressToken"]
    send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": said}})
    send({"method": "notifications/message", "params": {"level": "error", "data": {KEY: [said]}}})
    schema = {"type": "object", "properties": {"f": {"type": "string", "description": said}}}
    send({"id": "q", "method": "elicitation/create", "params": {"message": said, "requestedSchema": schema}})
    return {"result": {"content": [{"type": "text", "text": said}], "structuredContent": {"key": said, KEY: REGION}}}


for line in sys.stdin:
    request = json.loads(line)
    method = request.get("method")
    if method is None or "id" not in request:
        continue
    if method == "initialize":
        answer = {
            "result": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}, "logging": {}},
                "serverInfo": {"name": "leaks " + KEY, "version": "1"},
            }
        }
    elif method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("tells", "fails", "refuses", "dies")]
        answer = {"result": {"tools": tools}}
    elif method == "tools/call":
        answer = call(request)
    elif method in ("ping", "logging/setLevel"):
        answer = {"result": {}}
    else:
        answer = {"error": {"code": -32601, "message": "method not found"}}
    send({"id": request["id"], **answer})
