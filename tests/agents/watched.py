"""An MCP agent over stdio with one resource: the contents of a file. With `subscribe`, it notifies of changes.

Arguments: the file, the file that gets the methods of its requests, and `subscribe` or `poll`.
"""

import json
import os
import sys
import threading
import time

PATH, METHODS, MODE = sys.argv[1:4]
LOCK = threading.Lock()


def send(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def contents():
    try:
        with open(PATH, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def notify_of_changes(uri):
    before = contents()
    while True:
        time.sleep(0.02)
        now = contents()
        if now != before:
            send({"method": "notifications/resources/updated", "params": {"uri": uri}})
        before = now


def answer(request):
    method = request["method"]
    if method == "initialize":
        capabilities = {"tools": {}, "resources": {"subscribe": MODE == "subscribe"}}
        server = {"name": "watched", "version": "1"}
        return {"result": {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server}}
    if method == "tools/list":
        return {"result": {"tools": []}}
    if method == "resources/list":
        return {"result": {"resources": [{"uri": "state://1", "name": "state"}]}}
    if method == "resources/templates/list":
        return {"result": {"resourceTemplates": []}}
    if method == "resources/read":
        text = contents()
        if text is None:
            return {"error": {"code": -32002, "message": "no such resource"}}
        part = {"uri": request["params"]["uri"], "mimeType": "application/json", "text": text}
        return {"result": {"contents": [part]}}
    if method == "resources/subscribe" and MODE == "subscribe":
        threading.Thread(target=notify_of_changes, args=[request["params"]["uri"]], daemon=True).start()
        return {"result": {}}
    if method in ("ping", "resources/unsubscribe"):
        return {"result": {}}
    return {"error": {"code": -32601, "message": "method not found"}}


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request or "method" not in request:
        continue
    with open(METHODS, "a", encoding="utf-8") as log:
        log.write(request["method"] + "\n")
    send({"id": request["id"], **answer(request)})
os._exit(0)
