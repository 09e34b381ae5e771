#!/usr/bin/env python3
"""Plays a client's side of a conversation, byte for byte: a part of the file CONVERSATION.

It notes in LEDGER what is to happen (!), what it gets other than what the file says, and the end.
Children of other shards answer what they are asked.
"""
import json
import os
import re
import sys

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
numbers = {}


def note(event, **more):
    line = {"event": event, "pid": os.getpid(), **more}
    os.write(ledger, (json.dumps(line) + "\n").encode())


def pattern(text):
    """The text, with what is bound already, and groups for what is not."""
    text = re.escape(text).replace("\\$T", "[0-9]{13}")
    for name in re.findall(r"\\\$(N[0-9])", text):
        value = numbers.get(name) or "(?P<%s>[0-9]+)" % name
        text = text.replace("\\$" + name, value, 1)
    return text


def bound(text):
    for name, value in numbers.items():
        text = text.replace("$" + name, value)
    return text.replace("\\n", os.environ["NEW_LINE"])


def lines():
    text = open(os.environ["CONVERSATION"]).read()
    return text.split("== %s\n" % os.environ["PART"])[1].split("\n\n")[0].splitlines()


first = sys.stdin.buffer.readline()
while json.loads(first)["shardId"] != "shardId-000000000000":
    message = first
    while message:
        status = {"action": "status", "responseFor": json.loads(message)["action"]}
        os.write(1, (json.dumps(status) + "\n").encode())
        message = sys.stdin.buffer.readline()
    sys.exit()

for line in lines():
    kind, text = line[0], line[2:]
    if kind == "<":
        os.write(1, bound(text).encode())
    elif kind == "!":
        # Opened by whoever made it happen.
        gate = os.path.join(os.path.dirname(os.environ["LEDGER"]), text)
        os.mkfifo(gate)
        note(text)
        open(gate).close()
    else:
        got = (first or sys.stdin.buffer.readline()).decode()
        first = None
        found = re.fullmatch(pattern(text) + "\n" if kind == ">" else "", got)
        if not found:
            note("differs", got=got, want=text)
            sys.exit(1)
        numbers.update(found.groupdict())
note("over")
