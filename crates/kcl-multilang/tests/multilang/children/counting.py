#!/usr/bin/env python3
"""A consumer that decodes and counts: what a batch costs is Python's JSON. One line of LEDGER a batch."""
import base64
import json
import os
import sys
import time

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
shard = None


def note(event, **more):
    line = {"event": event, "shard": shard, "pid": os.getpid(), "at": time.time(), **more}
    os.write(ledger, (json.dumps(line) + "\n").encode())


def say(message):
    sys.stdout.write("\n%s\n" % json.dumps(message))
    sys.stdout.flush()


for line in iter(sys.stdin.readline, ""):
    begin = time.time()
    message = json.loads(line)
    action = message["action"]
    shard = message.get("shardId", shard)
    records = message.get("records", [])
    for record in records:
        base64.b64decode(record["data"])
    if records or action in ("shardEnded", "shutdownRequested"):
        say({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None})
        assert json.loads(sys.stdin.readline())["error"] is None
    note(action, records=len(records), begin=begin)
    say({"action": "status", "responseFor": action})
