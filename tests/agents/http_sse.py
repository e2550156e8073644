"""An MCP agent over HTTP+SSE of 2024-11-05. Standard library only.

usage: http_sse.py MODE FOLDER PORT

MODE is `plain`, `other-origin` (the endpoint event names another server), `needs-token` (requests need the header
`Authorization: Bearer secret-token`), or `streamable` (only Streamable HTTP, although the address ends in `/sse`). FOLDER
gets the file `methods` with a line for each request and notification, `streams` with a line for each opened stream, and
`listens` with the port (PORT may be 0)."""

import itertools
import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MODE, FOLDER, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
NAMES = ["echo", "steps", "ask", "think", "roots", "forever", "large", "huge", "end", "end-once", "secret"]
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
SESSIONS = {}
NUMBERS = itertools.count(1)
LOCK = threading.Lock()


def record(file, line):
    with LOCK, open("%s/%s" % (FOLDER, file), "a") as opened:
        opened.write(line + "\n")


def lines(file):
    try:
        with open("%s/%s" % (FOLDER, file)) as opened:
            return opened.read().splitlines()
    except FileNotFoundError:
        return []


class Session:
    """The messages to one client, and the answers of that client."""

    def __init__(self):
        self.outgoing = queue.Queue()
        self.answers = {}
        self.cancelled = threading.Event()

    def send(self, message):
        self.outgoing.put({"jsonrpc": "2.0", **message})

    def ask(self, method, params):
        number, answer = next(NUMBERS), queue.Queue()
        self.answers[number] = answer
        self.send({"id": number, "method": method, "params": params})
        return answer.get()

    def end(self):
        self.outgoing.put(None)


def text(value):
    return {"content": [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}]}


def call(session, params):
    """Returns the result of a tool, or None if there is none."""
    name, arguments = params["name"], params.get("arguments") or {}
    if name == "echo":
        return text(arguments.get("text", ""))
    if name == "steps":
        token = params["_meta"]["progressToken"]
        for step in (1, 2, 3):
            progress = {"progressToken": token, "progress": step, "total": 3}
            session.send({"method": "notifications/progress", "params": progress})
        return text("done")
    if name == "ask":
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        return text(session.ask("elicitation/create", {"message": "who?", "requestedSchema": schema})["result"])
    if name == "think":
        message = {"role": "user", "content": {"type": "text", "text": "sum up"}}
        return text(session.ask("sampling/createMessage", {"messages": [message], "maxTokens": 50})["result"])
    if name == "roots":
        return text(session.ask("roots/list", {})["result"]["roots"])
    if name == "forever":
        record("calls", "forever")
        session.cancelled.wait()
        record("calls", "cancelled")
        return None
    if name == "large":
        return text("x" * 20_000_000)
    if name == "huge":
        return text("x" * 70_000_000)
    if name == "secret":
        return text("the token is secret-token")
    if name == "end" or len(lines("streams")) == 1:
        session.end()
        return None
    return text("the stream is a new one")


def answer(session, message):
    method = message.get("method")
    if method is None:
        session.answers[message["id"]].put(message)
        return
    record("methods", method)
    if method == "notifications/cancelled":
        session.cancelled.set()
    if "id" not in message:
        return
    if method == "initialize":
        server = {"name": "sse", "version": "1"}
        result = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": server}
    elif method == "tools/list":
        result = {"tools": TOOLS}
    elif method == "tools/call":
        result = call(session, message["params"])
    else:
        session.send({"id": message["id"], "error": {"code": -32601, "message": "method not found"}})
        return
    if result is not None:
        session.send({"id": message["id"], "result": result})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_refused(self):
        return MODE == "needs-token" and self.headers["Authorization"] != "Bearer secret-token"

    def do_GET(self):
        if self.is_refused():
            return self.reply(401)
        if MODE == "streamable" or not self.path.startswith("/sse"):
            return self.reply(405)
        session, number = Session(), str(next(NUMBERS))
        SESSIONS[number] = session
        record("streams", number)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        origin = "http://localhost:%d" % self.server.server_port if MODE == "other-origin" else ""
        self.event("endpoint", origin + "/messages?session_id=" + number)
        self.wfile.write(b": keep-alive\n\nevent: ping\ndata: {}\n\n")
        while (message := session.outgoing.get()) is not None:
            self.event("message", json.dumps(message))
        self.close_connection = True

    def event(self, name, data):
        self.wfile.write(("event: %s\ndata: %s\n\n" % (name, data)).encode())
        self.wfile.flush()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.is_refused():
            return self.reply(401)
        message = json.loads(body)
        if MODE == "streamable":
            session = Session()
            answer(session, message)
            if "id" not in message:
                return self.reply(202)
            return self.reply(200, json.dumps(session.outgoing.get()).encode(), "application/json")
        address = urlsplit(self.path)
        if address.path != "/messages":
            return self.reply(405)
        session = SESSIONS.get(parse_qs(address.query)["session_id"][0])
        if session is None:
            return self.reply(404, b"no such session")
        threading.Thread(target=answer, args=(session, message), daemon=True).start()
        self.reply(202, b"Accepted")


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
record("listens", str(server.server_port))
server.serve_forever()
