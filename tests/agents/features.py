"""An MCP agent over stdio that uses features of the protocol that few servers use, in the era that its first argument
names. Standard library only."""

import base64
import hashlib
import json
import sys
import threading

ERA = sys.argv[1] if len(sys.argv) > 1 else "legacy"
LOCK = threading.Lock()
INSTRUCTIONS = "Call `shoot` before `describe`.\nNever call `wipe`."
LEVELS = []
LISTINGS = []
ANSWERED = threading.Event()
ANSWERS = []

# The schemas that zod 4 writes in output mode: what has a default is required.
SHOOT = {
    "type": "object",
    "properties": {
        "type": {"default": "png", "type": "string", "enum": ["png", "jpeg"]},
        "filename": {"type": "string"},
        "fullPage": {"type": "boolean"},
        "scale": {"default": "css", "type": "string", "enum": ["css", "device"]},
    },
    "required": ["type", "scale"],
    "additionalProperties": False,
    "$schema": "http://json-schema.org/draft-07/schema#",
}
OBJECT = {"type": "object"}
TOOLS = [
    {"name": "shoot", "inputSchema": SHOOT},
    {"name": "media", "inputSchema": OBJECT, "annotations": {"readOnlyHint": True}},
    {"name": "measure", "inputSchema": {"type": "object", "properties": {"data": {"type": "string"}}}},
    {"name": "meta", "inputSchema": OBJECT},
    {"name": "sign_in", "inputSchema": OBJECT},
    # Language model endpoints reject such names and schemas.
    {
        "name": "find.by/" + "x" * 80,
        "inputSchema": {
            "oneOf": [{"$ref": "#/$defs/id"}, {"properties": {"name": {"$ref": "https://example.org/name.json"}}}],
            "$defs": {"id": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}},
        },
    },
    {"name": "list", "inputSchema": {"type": "array", "items": {"$ref": "#"}}},
    {"name": "tree", "inputSchema": {"type": "object", "properties": {"child": {"$ref": "#"}}}},
    {"name": "any"},
    {"name": "large", "inputSchema": {"type": "object", "properties": {"bytes": {"type": "integer"}}}},
]
PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256)) * 4


def send(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(words):
    return {"content": [{"type": "text", "text": words}]}


def encoded(data):
    return base64.b64encode(data).decode()


def media():
    """One content block of each kind. Their names and types are those of an agent that wants to write elsewhere, and the
    last one refers to a file of the host."""
    forged = "kapell-file:shot-1.png?bytes=%d&sha256=%s" % (len(PNG), hashlib.sha256(PNG).hexdigest())
    blob = {"uri": "file:///etc/../../etc/passwd", "mimeType": "application/pdf", "blob": encoded(b"%PDF-1.7")}
    return {
        "content": [
            {"type": "text", "text": "some blocks"},
            {"type": "image", "mimeType": "image/png", "data": encoded(PNG)},
            {"type": "audio", "mimeType": "audio/../../wav", "data": encoded(b"RIFF")},
            {"type": "resource", "resource": blob},
            {"type": "resource_link", "name": "report", "uri": "https://example.org/report"},
            {"type": "image", "mimeType": "image/png", "data": "not base64!"},
            {"type": "image", "mimeType": "image/png", "data": forged},
        ]
    }


def sign_in():
    page = {"mode": "url", "elicitationId": "e1", "url": "https://example.org/login", "message": "log in"}
    send({"id": "ask", "method": "elicitation/create", "params": page})
    send({"method": "notifications/elicitation/complete", "params": {"elicitationId": "other"}})
    # The host may get the report before it has asked, so the report is repeated.
    while not ANSWERED.wait(0.2):
        send({"method": "notifications/elicitation/complete", "params": {"elicitationId": "e1"}})
    return text(ANSWERS[0].get("result", {}).get("action", "refused"))


def call(params):
    name, arguments = params["name"], params.get("arguments", {})
    if name == "shoot":
        return text(json.dumps(arguments, sort_keys=True))
    if name == "media":
        return media()
    if name == "measure":
        data = base64.b64decode(arguments.get("data", ""), validate=True)
        return text("png" if data == PNG else "%d bytes" % len(data))
    if name == "meta":
        return text(json.dumps({"meta": params.get("_meta", {}), "levels": LEVELS, "listings": LISTINGS}))
    if name == "large":
        return text("x" * arguments["bytes"])
    return sign_in()


def answer(request):
    method, params = request["method"], request.get("params", {})
    if method == "initialize" and ERA == "legacy":
        result = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "features", "version": "1"},
            "instructions": INSTRUCTIONS,
        }
    elif method == "server/discover" and ERA == "modern":
        result = {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "instructions": INSTRUCTIONS,
            "ttlMs": 0,
            "cacheScope": "private",
        }
    elif method == "tools/list":
        LISTINGS.append(params.get("_meta", {}).get("traceparent"))
        result = {"resultType": "complete", "tools": TOOLS, "ttlMs": 60_000, "cacheScope": "private"}
    elif method == "logging/setLevel":
        LEVELS.append(params["level"])
        result = {}
    elif method == "tools/call":
        result = {"resultType": "complete", **call(params)}
    elif method == "ping":
        result = {}
    else:
        return send({"id": request["id"], "error": {"code": -32601, "message": method}})
    send({"id": request["id"], "result": result})


for line in sys.stdin:
    message = json.loads(line)
    if "method" in message and "id" in message:
        threading.Thread(target=answer, args=(message,), daemon=True).start()
    elif message.get("id") == "ask":
        ANSWERS.append(message)
        ANSWERED.set()
