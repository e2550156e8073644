"""An MCP agent over stdio that records every call and waits if a file requests it. Standard library only.

The first argument is a folder. `step` appends its label to the file `calls` there. While a file `hold-LABEL` is there, the
call does not end; `fail-LABEL` makes it an error, and creates `failed-LABEL`. A call that is cancelled meanwhile appends
`LABEL cancelled`, and is never answered.
"""

import json
import os
import sys
import threading
import time

FOLDER = sys.argv[1]
LOCK = threading.Lock()
LABELS = {}
TOOLS = [
    {"name": "step", "inputSchema": {"type": "object", "properties": {"label": {"type": "string"}}}},
    {"name": "list", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
]


def path(name):
    return os.path.join(FOLDER, name)


def send(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def note(line):
    with LOCK, open(path("calls"), "a") as file:
        file.write(line + "\n")


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def call(request):
    arguments = request["params"].get("arguments", {})
    if request["params"]["name"] == "list":
        with open(path("items")) as file:
            items = file.read().split()
        return text(" ".join(items), structuredContent={"items": items})
    label = str(arguments["label"])
    LABELS[request["id"]] = label
    note(label)
    while os.path.exists(path("hold-" + label)):
        time.sleep(0.01)
    if LABELS.pop(request["id"], None) is None:
        return None
    if os.path.exists(path("fail-" + label)):
        open(path("failed-" + label), "w").close()
        return text("no luck with " + label, isError=True)
    return text(label)


def answer(request):
    method = request["method"]
    if method == "initialize":
        result = {
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "steps", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": TOOLS}
    elif method == "tools/call":
        result = call(request)
    elif method == "ping":
        result = {}
    else:
        return send({"id": request["id"], "error": {"code": -32601, "message": method}})
    if result is not None:
        send({"id": request["id"], "result": result})


for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "notifications/cancelled":
        cancelled = LABELS.pop(message["params"]["requestId"], None)
        if cancelled is not None:
            note(cancelled + " cancelled")
    elif "id" in message and "method" in message:
        threading.Thread(target=answer, args=(message,), daemon=True).start()
