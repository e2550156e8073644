"""An MCP agent over stdio whose results are binary or large. Standard library only.

usage: pictures.py EFFECTS

EFFECTS gets a line of JSON with the idempotency key of each call."""

import base64
import hashlib
import json
import sys
import time

EFFECTS = sys.argv[1]
BYTES = 6_000
TEXT_BYTES = 1_200_000
OBJECT = {"type": "object"}
TOOLS = [{"name": name, "inputSchema": OBJECT} for name in ("draw", "write", "measure")]


def picture(name):
    """Returns bytes that only this name has, in Base64."""
    block = hashlib.sha256(name.encode()).digest()
    return base64.b64encode((block * (BYTES // len(block) + 1))[:BYTES]).decode()


def draw(name):
    sound = {"uri": "sound:///" + name, "mimeType": "audio/mpeg", "blob": picture(name + " sound")}
    return [
        {"type": "text", "text": name},
        {"type": "image", "mimeType": "image/png", "data": picture(name)},
        {"type": "resource", "resource": sound},
    ]


def write(name):
    return [{"type": "text", "text": (name * TEXT_BYTES)[:TEXT_BYTES]}]


def measure(contents, text):
    parts = [base64.b64decode(data, validate=True) for data in contents] + [text.encode()]
    return [{"type": "text", "text": " ".join(hashlib.sha256(part).hexdigest() for part in parts)}]


def answer(method, params):
    if method == "initialize":
        capabilities = {"tools": {}, "resources": {}}
        server = {"name": "pictures", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": capabilities, "serverInfo": server}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "resources/list":
        return {"resources": []}
    time.sleep(0.03)
    if method == "resources/read":
        uri = params["uri"]
        result = {"contents": [{"uri": uri, "mimeType": "image/png", "blob": picture(uri)}]}
    elif params["name"] == "draw":
        result = {"content": draw(params["arguments"]["name"])}
    elif params["name"] == "write":
        result = {"content": write(params["arguments"]["name"])}
    else:
        result = {"content": measure(**params["arguments"])}
    with open(EFFECTS, "a") as effects:
        effects.write(json.dumps({"idempotency_key": params["_meta"]["kapell/idempotency-key"]}) + "\n")
    return result


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] in ("initialize", "tools/list", "tools/call", "resources/list", "resources/read"):
        reply = {"result": answer(message["method"], message.get("params", {}))}
    else:
        reply = {"error": {"code": -32601, "message": "method not found"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **reply}), flush=True)
