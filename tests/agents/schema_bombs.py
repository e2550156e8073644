"""An MCP agent over stdio whose schemas describe far more work than they are long. Its tool `hang` never answers.
Standard library only.

Arguments: the name of the schema, and where it stands: `input`, `output` or `form`."""

import json
import sys


def doubling(levels, keyword="allOf"):
    definitions = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    definitions[f"d{levels}"] = {"type": "object"}
    return {"type": "object", "$defs": definitions, "$ref": "#/$defs/d0"}


def deep(levels):
    return '{"type":"object","properties":{"a":' * levels + "{}" + "}}" * levels


SCHEMAS = {
    "doubling": lambda: doubling(60),
    "costly": lambda: doubling(15),
    "unevaluated": lambda: {**doubling(24), "unevaluatedProperties": False},
    "patterns": lambda: {
        "type": "object",
        "properties": {f"s{n}": {"type": "string", "pattern": f"(?i)[\\w\\p{{L}}]{{1,400}}{n}"} for n in range(400)},
    },
    "repetition": lambda: {"type": "object", "properties": {"s": {"type": "string", "pattern": "(a{1000}){1000}"}}},
    "options": lambda: {"type": "object", "properties": {"s": {"enum": list(range(120_000))}}},
    "oversized": lambda: {"type": "object", "properties": {"s": {"enum": list(range(1_000_000))}}},
    "loop": lambda: {"type": "object", "allOf": [{"$ref": "#"}]},
    "plain": lambda: {"type": "object", "properties": {"s": {"type": "string"}}},
}
NAME, PLACE = sys.argv[1:]
SCHEMA = SCHEMAS[NAME]()
PLAIN = SCHEMAS["plain"]()


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tool():
    listed = {"name": "go", "inputSchema": SCHEMA if PLACE == "input" else PLAIN}
    return {**listed, "outputSchema": SCHEMA} if PLACE == "output" else listed


for line in sys.stdin:
    request = json.loads(line)
    method = request.get("method")
    if method is None or "id" not in request:
        continue
    if method == "initialize":
        server = {"name": "schemas", "version": "1"}
        answer = {"result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": server}}
    elif method == "tools/list":
        answer = {"result": {"tools": [tool(), {"name": "hang", "inputSchema": PLAIN}]}}
    elif method == "tools/call" and request["params"]["name"] == "hang":
        continue
    elif method == "tools/call":
        if PLACE == "form":
            send({"id": "q", "method": "elicitation/create", "params": {"message": "?", "requestedSchema": SCHEMA}})
        content = [{"type": "text", "text": "done"}]
        answer = {"result": {"content": content, "structuredContent": {"s": "a" * 100}}}
    elif method == "ping":
        answer = {"result": {}}
    else:
        answer = {"error": {"code": -32601, "message": "method not found"}}
    send({"id": request["id"], **answer})
