"""The frame of an MCP agent over stdio: the handshake, the list of tools, and calls. Standard library only."""

import json
import sys


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words):
    return {"content": [{"type": "text", "text": words}]}


def serve(server, tools, call, before_each_answer=lambda: None):
    """Answers requests until there are no more; `call` gives the answer to a call: its `result` or `error`."""
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if method is None or "id" not in request:
            continue
        if method == "initialize":
            capabilities = {"tools": {}, "logging": {}}
            handshake = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server}
            answer = {"result": handshake}
        elif method == "tools/list":
            answer = {"result": {"tools": tools}}
        elif method == "tools/call":
            answer = call(request)
        elif method in ("ping", "logging/setLevel"):
            answer = {"result": {}}
        else:
            answer = {"error": {"code": -32601, "message": "method not found"}}
        before_each_answer()
        send({"id": request["id"], **answer})
