"""An MCP agent over stdio that misbehaves in the way its first argument names. Standard library only."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
LOCK = threading.Lock()
WAITING = {}
NUMBERS = itertools.count(1)
CLIENT = {}
TOGETHER = [0, 0]
CANCELLED = threading.Event()

TEXT = {"type": "string"}
TOOLS = [
    {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": TEXT}, "required": ["text"]}},
    {"name": "work", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {
        "name": "count",
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
]


def write(data):
    with LOCK:
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


def send(message):
    write(json.dumps({"jsonrpc": "2.0", **message}).encode())


def notify(method, **params):
    send({"method": method, "params": params})


def ask(method, params):
    """Sends a request to the host and waits for its answer."""
    number = "ask-%d" % next(NUMBERS)
    WAITING[number] = (threading.Event(), {})
    send({"id": number, "method": method, "params": params})
    event, answer = WAITING[number]
    event.wait()
    return answer


def text(words):
    return {"content": [{"type": "text", "text": words}]}


def prompt(marker):
    content = {"type": "text", "text": marker}
    return {"messages": [{"role": "user", "content": content}], "maxTokens": 100}


def asks(arguments):
    """Asks the model with the call's own marker, and says how many calls were there at once. A call without a marker
    asks nothing. With `together`, it waits for that many calls."""
    with LOCK:
        TOGETHER[0] += 1
        TOGETHER[1] = max(TOGETHER)
    while TOGETHER[1] < arguments.get("together", 1):
        time.sleep(0.01)
    time.sleep(arguments.get("after", 0))
    if arguments.get("dies"):
        os._exit(7)
    said = {"pid": os.getpid(), "client": CLIENT}
    if "marker" in arguments:
        answer = ask("sampling/createMessage", prompt(arguments["marker"]))
        said["answer"] = answer.get("result", {}).get("content", answer.get("error"))
    with LOCK:
        TOGETHER[0] -= 1
        said["together"] = TOGETHER[1]
    return text(json.dumps(said))


def tool_round(messages):
    """The next request of a conversation in which the model must use a tool and gets its result."""
    mode = "required" if len(messages) == 1 else "none"
    schema = {"type": "object", "properties": {"city": {"enum": ["Porto", "Lisbon"]}}, "required": ["city"]}
    return {
        "messages": messages,
        "maxTokens": 200,
        "tools": [{"name": "geo.find", "description": "Finds a city.", "inputSchema": schema}],
        "toolChoice": {"mode": mode},
    }


def with_result(messages, reply):
    """The conversation after the model has asked for a tool and that has answered."""
    blocks = reply["content"] if isinstance(reply["content"], list) else [reply["content"]]
    uses = [block for block in blocks if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "toolUseId": use["id"], **text("41.1 N")} for use in uses]
    return messages + [{"role": "assistant", "content": reply["content"]}, {"role": "user", "content": results}]


QUESTION = [{"role": "user", "content": {"type": "text", "text": "Where is it?"}}]


def modern_tools(params):
    declared = params["_meta"]["io.modelcontextprotocol/clientCapabilities"].get("sampling")
    earlier = json.loads(params.get("requestState", "[]"))
    replies = earlier + [answer for answer in params.get("inputResponses", {}).values()]
    if len(replies) == 2:
        seen = {"declared": declared, "first": replies[0], "second": replies[1]}
        return {"resultType": "complete", **text(json.dumps(seen))}
    messages = with_result(QUESTION, replies[0]) if replies else QUESTION
    asked = {"method": "sampling/createMessage", "params": tool_round(messages)}
    return {"resultType": "input_required", "inputRequests": {"m": asked}, "requestState": json.dumps(replies)}


def modern(params):
    """One round with a request that no type of the protocol's libraries foresees, and one of mere patience."""
    if MODE == "modern-samples-tools":
        return modern_tools(params)
    if MODE == "modern-task":
        return {"resultType": "task", "taskId": "1", "status": "working", "createdAt": "", "lastUpdatedAt": ""}
    state = params.get("requestState")
    if MODE == "modern-asks" and state is None:
        asked = {"method": "sampling/createMessage", "params": prompt(params["arguments"]["marker"])}
        return {"resultType": "input_required", "inputRequests": {"sum": asked}, "requestState": "done"}
    if MODE == "modern-asks":
        answer = params["inputResponses"]["sum"]["content"]
        return {"resultType": "complete", **text(json.dumps({"pid": os.getpid(), "answer": answer}))}
    if state is None:
        schema = {"type": "object", "properties": {"tree": {"type": "object"}}, "x-odd": True}
        asked = {"method": "elicitation/create", "params": {"message": "who?", "requestedSchema": schema}}
        if MODE == "modern-samples":
            messages = [{"role": "user", "content": {"type": "image", "data": "", "mimeType": "image/png"}}]
            asked = {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 1}}
        return {"resultType": "input_required", "inputRequests": {"who": asked}, "requestState": "asked"}
    if state == "asked":
        answers = json.dumps(params["inputResponses"])
        return {"resultType": "input_required", "requestState": "waited " + answers}
    return {"resultType": "complete", **text(state)}


def call(request):
    """Runs one tools/call; returns a result, or None when it has answered by itself."""
    params = request["params"]
    token = params.get("_meta", {}).get("progressToken")
    arguments = params.get("arguments", {})

    def progress(n, total=None, message=None):
        notify("notifications/progress", progressToken=token, progress=n, total=total, message=message)

    if params["name"] == "echo":
        return text(arguments["text"])
    if params["name"] == "count":
        n = "many" if MODE == "breaks-schema" else 3
        return {**text(str(n)), "structuredContent": {"n": n}}
    if MODE.startswith("modern"):
        return modern(params)
    if MODE == "asks":
        return asks(arguments)
    if MODE == "dies":
        sys.stderr.write("giving up\n")
        sys.stderr.flush()
        os._exit(7)
    if MODE == "silent":
        # A host whose machine is busy may have cancelled its handshake.
        CANCELLED.clear()
        sys.stderr.write("silent from here\n")
        sys.stderr.flush()
        return CANCELLED.wait(60) and text("cancelled")
    if MODE == "other-id":
        send({"id": 999, "result": text("for another request")})
        return text("for you")
    if MODE == "bad-answer":
        return write(b'{"jsonrpc": "2.0", "id": %d, "result": {oops}}' % request["id"])
    if MODE == "large":
        return text("x" * 20_000_000)
    if MODE == "too-large":
        return text("x" * (65 * 1024 * 1024))
    if MODE == "bad-utf8":
        write(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"\xff\xfe"}}')
        write(b"\xff\xfe\xfd")
        return text("after")
    if MODE == "flood":
        for n in range(1, 1001):
            progress(n, 1000, "step %d" % n)
        return text("flooded")
    if MODE == "logs":
        for n in range(200):
            notify("notifications/message", level="info", data="line %d" % n)
        return text("logged")
    if MODE == "slow":
        for n in range(1, 7):
            time.sleep(0.15)
            # With a file, each step waits until it has one more byte.
            while len(sys.argv) > 2 and os.path.getsize(sys.argv[2]) < n:
                time.sleep(0.01)
            progress(n, 6, "step %d" % n)
        return text("slow but steady")
    if MODE == "elicits-later":
        time.sleep(arguments.get("after", 0))
        answer = ask("elicitation/create", {"message": "who?", "requestedSchema": {"type": "object"}})
        return text(answer["result"]["action"])
    if MODE == "elicits":
        schema = {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}
        answer = ask("elicitation/create", {"message": "who?", "requestedSchema": schema})
        return text(json.dumps(answer.get("result", answer.get("error")), sort_keys=True))
    if MODE == "pages":
        pages = [{"mode": "url", "elicitationId": "1", "url": "https://example.org/login", "message": "log in"}]
        if not WAITING:
            WAITING["visited"] = None
            error = {"code": -32042, "message": "log in first", "data": {"elicitations": pages}}
            return send({"id": request["id"], "error": error})
        return text("logged in")
    if MODE == "samples":
        content = {"type": arguments.get("kind", "text"), "text": "sum up"}
        params = {"messages": [{"role": "user", "content": content}], "maxTokens": 100}
        answer = ask("sampling/createMessage", params)
        return text(json.dumps(answer.get("result", answer.get("error")), sort_keys=True))
    if MODE == "samples-tools":
        answer = ask("sampling/createMessage", tool_round(QUESTION))
        if "error" in answer:
            return text(json.dumps(answer["error"]))
        first = answer["result"]
        second = ask("sampling/createMessage", tool_round(with_result(QUESTION, first)))["result"]
        return text(json.dumps({"declared": CLIENT.get("sampling"), "first": first, "second": second}))
    if MODE == "changes":
        TOOLS.append({"name": "later", "inputSchema": {"type": "object"}})
        notify("notifications/tools/list_changed")
        return text("changed")
    if MODE == "refuses":
        return send({"id": request["id"], "error": {"code": -32602, "message": "not like this"}})
    if MODE == "fails":
        return {**text("no such city"), "isError": True}
    if MODE == "environment":
        return text(json.dumps(sorted(os.environ)))
    return text("worked")


def answer(request):
    method = request["method"]
    if method == "initialize":
        version = request["params"]["protocolVersion"]
        CLIENT.update(request["params"]["capabilities"])
        if MODE == "wants-model" and "sampling" in CLIENT:
            TOOLS.append({"name": "sum_up", "inputSchema": {"type": "object"}})
        result = {
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": True}, "logging": {}},
            "serverInfo": {"name": "odd", "version": "1"},
        }
    elif method == "server/discover" and MODE.startswith("modern"):
        result = {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "ttlMs": 0,
            "cacheScope": "private",
        }
    elif method == "tools/list":
        # One tool a page, and one that is none.
        at = int(request["params"].get("cursor", 0))
        result = {"tools": TOOLS[at : at + 1] + ([{"name": "broken"}] if at == 0 else [])}
        if at + 1 < len(TOOLS):
            result["nextCursor"] = str(at + 1)
    elif method == "tools/call":
        result = call(request)
    elif method in ("ping", "logging/setLevel"):
        result = {}
    else:
        send({"id": request["id"], "error": {"code": -32601, "message": method}})
        return
    if result:
        send({"id": request["id"], "result": result})


def main():
    if MODE == "exits":
        sys.stderr.write("no license\n")
        sys.exit(3)
    if MODE == "asks" and len(sys.argv) > 2:
        # It runs once at a time.
        try:
            os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            sys.exit("it runs already")
    if MODE == "never":
        time.sleep(1000)
    if MODE == "noise":
        write(b"Welcome to odd 1.0!")
        write(b'{"level":"info","msg":"listening"}')
        write(b"[]")
    if MODE in ("ignores-eof", "stubborn"):
        if MODE == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        children = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
        pids = [os.getpid()] + [child.pid for child in children]
        with open(sys.argv[2], "w") as file:
            file.write(" ".join(map(str, pids)))
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "method" not in message:
            event, slot = WAITING[message["id"]]
            slot.update(message)
            event.set()
        elif message["method"] == "notifications/cancelled":
            sys.stderr.write("cancelled: %s\n" % message["params"].get("reason"))
            sys.stderr.flush()
            CANCELLED.set()
        elif MODE == "ignores-discover" and message["method"] == "server/discover":
            pass
        elif "id" in message:
            threading.Thread(target=answer, args=(message,), daemon=True).start()
    if MODE in ("ignores-eof", "stubborn"):
        time.sleep(1000)


main()
