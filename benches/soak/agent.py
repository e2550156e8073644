"""An MCP agent with random faults, over its pipes or over HTTP.

Never fails on its own account: every fault is one that the command line asks for.
"""

import argparse
import http.server
import json
import os
import random
import socketserver
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

TOOL = {"name": "work", "inputSchema": {"type": "object"}}


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int, help="the port to serve on; without it, the pipes")
    parser.add_argument("--delay", type=float, default=0.2, help="how long a call takes, in seconds")
    parser.add_argument("--errors", type=float, default=0, help="the share of calls that end with an error")
    parser.add_argument("--hangs", type=float, default=0, help="the share of calls that are never answered")
    parser.add_argument("--deaths", type=float, default=0, help="the share of calls that end the process")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


OPTIONS = options()
DICE = random.Random(OPTIONS.seed or None)


def work(arguments):
    """Does what a call asks for, or fails in one of the ways that may happen."""
    fate = DICE.random()
    for share, fault in ((OPTIONS.deaths, "death"), (OPTIONS.hangs, "hang"), (OPTIONS.errors, "error")):
        if fate < share:
            break
        fate -= share
    else:
        fault = None
    if fault == "death":
        os._exit(9)
    if fault == "hang":
        time.sleep(3600)
    time.sleep(OPTIONS.delay * DICE.uniform(0.5, 1.5))
    number = arguments.get("n")
    if fault == "error":
        return {"content": [{"type": "text", "text": "a random fault"}], "isError": True}
    return {"content": [{"type": "text", "text": f"done {number}"}], "structuredContent": {"n": number}}


def reply(message):
    method, params = message["method"], message.get("params") or {}
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if method == "initialize":
        info = {"name": "soak", "version": "1"}
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        result = work(params.get("arguments") or {})
    elif method == "ping":
        result = {}
    else:
        return {**answer, "error": {"code": -32601, "message": f"unknown method {method}"}}
    return {**answer, "result": result}


def is_request(message):
    return "id" in message and "method" in message


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(reply(message)).encode() if is_request(message) else b""
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(405)
        self.send_header("content-length", "0")
        self.end_headers()

    do_DELETE = do_GET

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100


def serve_pipes():
    lock = threading.Lock()

    def answer(message):
        line = json.dumps(reply(message)).encode() + b"\n"
        with lock:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    # A call that hangs keeps its thread.
    with ThreadPoolExecutor(256) as threads:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if is_request(message):
                threads.submit(answer, message)
        os._exit(0)


if OPTIONS.http is None:
    serve_pipes()
else:
    Server(("127.0.0.1", OPTIONS.http), Handler).serve_forever()
