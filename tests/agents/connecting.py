"""An MCP agent that is hard to connect to, in the way its first argument names. Standard library only.

usage: connecting.py MODE FOLDER         over stdio
       connecting.py MODE FOLDER PORT    over Streamable HTTP

FOLDER gets a file `starts` with a line for each start, `methods` with a line for each request, and `listens` with the
port (PORT may be 0)."""

import json
import os
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE, FOLDER = sys.argv[1], sys.argv[2]
TOOLS = [{"name": "work", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]
if MODE == "thousand-tools":
    TOOLS = [{**TOOLS[0], "name": "work-%d" % number} for number in range(1000)]
SERVER = {"name": "connecting", "version": "1"}


def note(file, line):
    with open("%s/%s" % (FOLDER, file), "a") as opened:
        opened.write(line + "\n")


def count(file):
    try:
        with open("%s/%s" % (FOLDER, file)) as opened:
            return len(opened.readlines())
    except FileNotFoundError:
        return 0


def legacy(request):
    version = MODE[8:] if MODE.startswith("version-") else "2025-06-18"
    results = {
        "initialize": {
            "protocolVersion": version,
            "capabilities": {} if MODE == "without-tools" else {"tools": {}},
            "serverInfo": SERVER,
        },
        "tools/list": {"tools": TOOLS},
        "tools/call": {"content": [{"type": "text", "text": "worked"}]},
        "ping": {},
    }
    if MODE == "echo-proxy":
        results["tools/call"] = {"content": [{"type": "text", "text": "the password is hunter22"}]}
    if MODE == "environment":
        results["tools/call"] = {"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]}
    return results.get(request["method"])


CHANGED = []


def changing(request):
    """A modern agent whose tool `read` takes a number once `migrate` was called."""
    fresh = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    kind = "integer" if CHANGED else "string"
    schema = {"type": "object", "properties": {"id": {"type": kind}}, "required": ["id"]}
    method = request["method"]
    if method == "server/discover":
        capabilities = {"tools": {"listChanged": MODE == "modern-announces"}}
        return {**fresh, "supportedVersions": ["2026-07-28"], "capabilities": capabilities}
    if method == "tools/list":
        tools = [{**TOOLS[0], "name": "migrate"}, {"name": "read", "inputSchema": schema}]
        if CHANGED and MODE == "modern-announces":
            tools[1]["description"] = "new"
        return {**fresh, "tools": tools}
    if method == "tools/call":
        if request["params"]["name"] == "migrate":
            CHANGED.append(True)
        return {"resultType": "complete", "content": [{"type": "text", "text": "worked"}]}
    return None


def modern(request):
    done = {"resultType": "complete", "ttlMs": 60000, "cacheScope": "private"}
    results = {
        "server/discover": {**done, "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
        "tools/list": {**done, "tools": TOOLS},
        "tools/call": {"resultType": "complete", "content": [{"type": "text", "text": "worked"}]},
    }
    return results.get(request["method"])


# The responses to `server/discover` of legacy servers, by mode.
ODD_DISCOVERIES = {
    "discover-empty": {"result": {}},
    "discover-null": {"result": None},
    "discover-text": {"result": "hello"},
    "discover-legacy-only": {"error": {"code": -32022, "message": "no", "data": {"supported": ["2025-06-18"]}}},
}
INITIALIZED = []


def refusing(request):
    """An agent of both eras whose library refuses elicitation on modern connections."""
    if request["method"] == "initialize":
        INITIALIZED.append(True)
    if INITIALIZED:
        return legacy(request)
    if request["method"] == "tools/call":
        refusal = "elicitation via server-initiated requests is unavailable on 2026-07-28 connections."
        return {"resultType": "complete", "content": [{"type": "text", "text": refusal}], "isError": True}
    return modern(request)


def answer(request):
    if MODE == "refuses-modern-requests":
        result = refusing(request)
    elif MODE in ("modern-changes", "modern-announces"):
        result = changing(request)
    else:
        result = by_era(request)
    if request["method"] == "server/discover" and MODE in ODD_DISCOVERIES:
        return {"jsonrpc": "2.0", "id": request["id"], **ODD_DISCOVERIES[MODE]}
    if request["method"] == "tools/list" and MODE == "without-tools":
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32603, "message": "no tools here"}}
    if result is None:
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "method not found"}}
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def by_era(request):
    is_modern = MODE.startswith("modern") or (MODE == "updated" and count("starts") > 1)
    return modern(request) if is_modern else legacy(request)


def notification(method, params):
    return {"jsonrpc": "2.0", "method": method, "params": params}


def stdio():
    note("starts", MODE)
    if MODE == "comes-later" and not os.path.exists(FOLDER + "/up"):
        sys.exit("error: not yet")
    if MODE == "opens":
        open(FOLDER + "/up", "w").close()
    if MODE == "crashes-once" and count("starts") < 3:
        sys.exit("error: the port is taken")
    if MODE == "fails-to-start":
        sys.exit("error: no license")
    if MODE == "slow":
        time.sleep(1000)
    first, subscribers = True, []
    for line in sys.stdin:
        request = json.loads(line)
        note("methods", request["method"])
        if first and request["method"] != "initialize":
            if MODE == "ends-on-probe":
                sys.exit("error: the first message must be `initialize`")
            if MODE == "hangs-on-probe":
                for _ in sys.stdin:
                    pass
                sys.exit()
        first = False
        if MODE == "modern-announces" and request["method"] == "subscriptions/listen":
            subscribers.append(request["id"])
            meta = {"io.modelcontextprotocol/subscriptionId": request["id"]}
            params = {"_meta": meta, "notifications": {"toolsListChanged": True}}
            print(json.dumps(notification("notifications/subscriptions/acknowledged", params)), flush=True)
            continue
        if "id" in request:
            before = len(CHANGED)
            answered = answer(request)
            for subscriber in subscribers if len(CHANGED) > before else []:
                params = {"_meta": {"io.modelcontextprotocol/subscriptionId": subscriber}}
                print(json.dumps(notification("notifications/tools/list_changed", params)), flush=True)
            print(json.dumps(answered, indent=2 if MODE == "pretty" else None), flush=True)


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    free = None

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(405)

    def do_DELETE(self):
        self.reply(405)

    def is_early(self, seconds):
        """Returns whether the delay of the first refusal has not passed yet."""
        Http.free = Http.free or time.monotonic() + seconds
        return time.monotonic() < Http.free

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = request["method"]
        note("methods", method)
        note("proxied", "%s %s" % (self.path, self.headers["Proxy-Authorization"]))
        if MODE.startswith("redirects-") and self.path == "/mcp":
            return self.reply(int(MODE.split("-")[1]), Location="/mcp/")
        if MODE.startswith("probe-") and method == "server/discover":
            status = MODE.split("-")[1]
            if status == "drop":
                self.close_connection = True
                return self.connection.close()
            return self.reply(int(status), b"no", "text/plain")
        if MODE == "starting" and method == "initialize" and self.is_early(1):
            return self.reply(503, b"starting", "text/plain", Retry_After="1")
        if MODE == "modern-starting" and self.is_early(0.5):
            return self.reply(503, b"starting", "text/plain", Retry_After="1")
        if MODE == "limited-start" and method == "initialize":
            return self.reply(429, b"slow down", "text/plain", Retry_After="3600")
        if MODE in ("limited-call", "busy-call") and method == "tools/call" and self.is_early(2):
            status = 429 if MODE == "limited-call" else 503
            return self.reply(status, b"slow down", "text/plain", Retry_After="2")
        if MODE == "limited-for-long" and method == "tools/call":
            return self.reply(429, b"slow down", "text/plain", Retry_After="3600")
        if MODE == "forbids-start" and method == "initialize":
            return self.reply(403, b"no", "text/plain")
        if "id" not in request:
            return self.reply(202)
        self.reply(200, json.dumps(answer(request)).encode())


if len(sys.argv) > 3:
    note("starts", MODE)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Http)
    if MODE in ("tls", "mutual-tls"):
        folder = os.path.join(os.path.dirname(__file__), "tls")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder + "/server.pem")
        if MODE == "mutual-tls":
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(folder + "/client.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    note("listens", str(server.server_port))
    server.serve_forever()
else:
    stdio()
