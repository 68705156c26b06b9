"""A small Model Context Protocol server on stdio, well-behaved or hostile as its argument says."""

import json
import os
import subprocess
import sys
import time

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
TOOLS = [
    {
        "name": "weather",
        "description": "Weather of a \x1b[31mplace.\n" + "x" * 500,
        "inputSchema": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    },
    {"name": "wipe", "description": "Deletes everything", "inputSchema": {"type": "object"}},
    {"name": "lock", "inputSchema": {"type": "object", "properties": {}}},
    {
        "name": "odd",
        "inputSchema": {
            "type": "object",
            "properties": {
                "x": {"enum": ["y" * 9000]},
                "unit": {"type": "string", "enum": ["metric", "imperial"]},
                "tags": {"type": "array", "items": {"$ref": "http://example.invalid/x"}},
                "far": {"$ref": "#/nowhere", "const": "@string 999999999"},
                'a" | "b': {"type": "string"},
            },
            "required": [5, "nothing"],
        },
    },
    "not a tool",
]


def send(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request: dict, result: object) -> None:
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def text(words: str) -> dict:
    return {"content": [{"type": "text", "text": words}, {"type": "image", "data": "x"}]}


def misbehave(request: dict) -> None:
    """How each hostile mode answers a call."""
    if MODE == "silent":
        time.sleep(600)
    elif MODE == "dies":
        os._exit(3)
    elif MODE == "flood":
        while True:
            send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"x": "y" * 900}})
    elif MODE == "huge line":
        while True:
            sys.stdout.write("z" * 65536)
    elif MODE == "wrong ids":
        for number in range(50):
            send({"jsonrpc": "2.0", "id": request["id"] + 1000 + number, "result": text("wrong")})
        time.sleep(600)
    elif MODE == "pings":
        while True:
            send({"jsonrpc": "2.0", "id": 7, "method": "ping"})
    elif MODE == "deaf":  # never reads again: the pipe to it fills up
        answer(request, text("once"))
        time.sleep(600)
    elif MODE == "garbage":
        sys.stdout.buffer.write(b"\xff\xfe{[\n" + b"[" * 10_000 + b"\nnull\n5\n{}\n")
        answer(request, text("after the garbage"))
    elif MODE == "result of another kind":
        send({"jsonrpc": "2.0", "id": request["id"], "result": [1, 2]})
    elif MODE == "content of another kind":
        answer(request, {"content": {"text": 5}})
    elif MODE == "child":
        child = subprocess.Popen(["sleep", "600"])
        answer(request, text(str(child.pid)))


def main() -> None:
    if MODE == "never starts":
        time.sleep(600)
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if method == "initialize":
            sys.stdout.write("a line that is no message\n")
            answer(request, {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}})
        elif method == "tools/list":
            if request["params"].get("cursor") == "more":
                answer(request, {"tools": TOOLS[2:]})
            else:
                answer(request, {"tools": TOOLS[:2], "nextCursor": "more"})
        elif method == "tools/call" and MODE != "good":
            misbehave(request)
        elif method == "tools/call":
            send({"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {}})
            place = request["params"]["arguments"].get("place", "")
            if place == "Atlantis":
                answer(request, {**text("no such place"), "isError": True})
            elif place == "nowhere":
                error = {"code": -32000, "message": "broken \x1b[0m"}
                send({"jsonrpc": "2.0", "id": request["id"], "error": error})
            else:
                answer(request, text(f"sunny in {place}, pid {os.getpid()}"))


main()
