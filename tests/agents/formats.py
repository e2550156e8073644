"""An MCP server that writes its messages as its first argument names: over stdio, or over Streamable HTTP if a port
is the second argument. Standard library only."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = sys.argv[1]
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else None
SCHEMA = {"type": "object"}
TEXT = [{"type": "text", "text": "fine"}]


class Raw(bytes):
    """A whole message, already written."""


def answer(ident, result):
    return {"jsonrpc": "2.0", "id": ident, "result": result}


def error(ident, code, message):
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": message}}


def hello():
    return {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "formats", "version": "1"},
    }


def php(request, ident, method):
    """Empty objects are empty lists, as `json_encode([])` writes them."""
    if method == "initialize":
        capabilities = {"tools": [], "logging": [], "experimental": []}
        return answer(ident, {**hello(), "capabilities": capabilities, "instructions": False})
    if method == "tools/list":
        plain = {"name": "now", "inputSchema": [], "annotations": [], "_meta": []}
        typed = {
            "name": "greet",
            "inputSchema": {"type": "object", "properties": {"who": {"type": "string", "enum": ["a", "b"]}, "any": []}},
            "outputSchema": {"type": "object", "properties": []},
        }
        # A list from which an element was removed.
        return answer(ident, {"tools": {"0": plain, "2": typed}, "_meta": []})
    if method == "tools/call":
        if request["params"]["name"] == "now":
            return answer(ident, {"content": TEXT, "isError": False, "_meta": []})
        return answer(ident, {"content": {"1": TEXT[0]}, "structuredContent": {"ok": True}})
    if method == "logging/setLevel":
        return answer(ident, [])
    return None


def pydantic(request, ident, method):
    """Every optional member is there, as `model_dump()` writes it."""
    if method == "initialize":
        nothing = {"listChanged": None, "subscribe": None}
        capabilities = {
            "experimental": None, "logging": None, "prompts": None, "completions": None, "resources": nothing,
            "tools": {"listChanged": None}, "extensions": None,
        }
        info = {"name": "formats", "version": "1", "title": None, "icons": None, "websiteUrl": None}
        result = {**hello(), "capabilities": capabilities, "serverInfo": info, "instructions": None, "_meta": None}
        return {**answer(ident, result), "error": None}
    if method == "tools/list":
        properties = {
            "room": {"$ref": "#/$defs/Room", "description": None, "default": None},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Note"},
        }
        schema = {
            "type": "object", "properties": properties, "required": ["room"], "additionalProperties": None,
            "$defs": {"Room": {"enum": ["single", "double"], "type": "string", "title": None}},
        }
        tool = {
            "name": "book", "title": None, "description": None, "inputSchema": schema, "outputSchema": None,
            "annotations": {"title": None, "readOnlyHint": None, "idempotentHint": None}, "execution": None,
            "icons": None, "_meta": None,
        }
        bare = {**tool, "name": "fail", "inputSchema": None, "annotations": None}
        return {**answer(ident, {"tools": [tool, bare], "nextCursor": None, "_meta": None}), "error": None}
    if method == "tools/call":
        if request["params"]["name"] == "fail":
            return {**error(ident, -32000, "disk quota exceeded"), "result": None}
        block = {"type": "text", "text": "fine", "annotations": None, "_meta": None}
        result = {"content": [block], "structuredContent": None, "isError": None, "_meta": None}
        return {**answer(ident, result), "error": None}
    return None


ANSWERS = {
    "latin": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"caf\xe9"}]}}',
    "nan": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"n":[NaN,-Infinity,1]}}}',
    "surrogate": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"a\\ud800b"}]}}',
    "control": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"a\tb\x1b"}]}}',
    "batch": b'[{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"fine"}]}}]',
    "mark": b'\xef\xbb\xbf{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"fine"}]}}',
    "colored": b'\x1b[32m 50%%\x1b[0m {"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"fine"}]}}',
    "bare": b'{"id":%d,"result":{"content":[{"type":"text","text":"fine"}]}}',
    "no-id": b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"disk quota exceeded"}}',
    "word": b'{"jsonrpc":"2.0","id":%d,"error":"disk quota exceeded"}',
    "mute": b'{"jsonrpc":"2.0","id":%d,"result":{"isError":true}}',
    "cut": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"fi',
    "quotes": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"a "quoted" word"}]}}',
    "typed": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"no notes"}]}}',
    "empty": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"no notes"}],'
    b'"structuredContent":{"note":null}}}',
    "both": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]},"error":{"code":1,"message":"m"}}',
    "neither": b'{"jsonrpc":"2.0","id":%d,"result":null}',
}


def answers(request, ident, method):
    """Each tool is answered in the bytes that its name stands for."""
    if method == "tools/list":
        typed = {"typed": SCHEMA, "empty": {"type": "object", "properties": {"note": {"type": "string"}}}}
        listed = [{"name": name, "inputSchema": SCHEMA, "outputSchema": typed.get(name)} for name in ANSWERS]
        return answer(ident, {"tools": listed})
    if method == "tools/call":
        written = ANSWERS[request["params"]["name"]]
        return Raw(written % ident if b"%d" in written else written)
    return None


def tools(request, ident, method):
    """Some tools of the list have defects."""
    if method == "tools/list":
        deep = {}
        for _ in range(300):
            deep = {"not": deep}
        return answer(ident, {"tools": [
            {"name": "good", "inputSchema": SCHEMA}, None, {"inputSchema": SCHEMA}, {"name": 7, "inputSchema": SCHEMA},
            {"name": "text", "inputSchema": "none"}, {"name": "deep", "inputSchema": deep}, {"name": "missing"},
            {"name": "null", "inputSchema": None}, {"name": "huge", "inputSchema": {"description": "x" * 2_000_000}},
        ]})
    if method == "tools/call":
        return answer(ident, {"content": TEXT})
    return None


def handshake(written):
    """The handshake is answered in these bytes."""
    return lambda request, ident, method: Raw(written % ident) if method == "initialize" else None


def listing(written):
    """The list of tools is answered in these bytes."""
    return lambda request, ident, method: Raw(written % ident) if method == "tools/list" else None


MODES = {
    "php": php,
    "pydantic": pydantic,
    "answers": answers,
    "sse": answers,
    "tools": tools,
    "cut-handshake": handshake(b'{"jsonrpc":"2.0","id":%d,"result":{"protocolVersion":"2025-06-18","capabil'),
    "text-handshake": handshake(b'{"jsonrpc":"2.0","id":%d,"result":"hello"}'),
    "cut-list": listing(b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[{"name":"t","inputSch'),
    "text-list": listing(b'{"jsonrpc":"2.0","id":%d,"result":"no tools"}'),
    "bare-handshake": handshake(b'{"id":%d,"result":{"capabilities":{"tools":[{"name":"t"}]},"serverInfo":{"name":"x"}}}'),
}


def respond(request):
    ident, method = request.get("id"), request.get("method")
    found = MODES[MODE](request, ident, method)
    if found is None and method == "initialize":
        found = answer(ident, hello())
    if found is None and method == "tools/list":
        found = answer(ident, {"tools": [{"name": "t", "inputSchema": SCHEMA}]})
    if found is None and method == "tools/call":
        found = answer(ident, {"content": TEXT})
    if found is None:
        found = error(ident, -32601, "method not found")
    return found if isinstance(found, Raw) else json.dumps(found).encode()


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", kind=None):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(405)

    do_DELETE = do_GET

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in request or "method" not in request:
            return self.reply(202)
        body = respond(request)
        if MODE == "sse":
            ping = b'event: ping\ndata: 2026-11-29T12:00:00Z\n\nretry: soon\nx-more\ndata: keep-alive\n\n'
            endpoint = b'event: endpoint\ndata: {"jsonrpc":"2.0","id":%d,"result":{}}\n\n' % request["id"]
            event = b"event: message\ndata: " + body + b"\n\n"
            return self.reply(200, ping + endpoint + event, "Text/Event-Stream;charset=UTF-8")
        kinds = {"php": "text/html; charset=UTF-8", "pydantic": "Application/JSON; charset=utf-8", "answers": None}
        return self.reply(200, body, kinds.get(MODE, "application/json"))


def main():
    if PORT:
        ThreadingHTTPServer(("127.0.0.1", PORT), Server).serve_forever()
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            sys.stdout.buffer.write(respond(request) + b"\n")
            sys.stdout.buffer.flush()


main()
