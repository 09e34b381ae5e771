#!/usr/bin/env python3
"""A consumer without any library. It writes what happens to the file LEDGER, a JSON object a line.

BEHAVE, a JSON object, says what goes wrong: {"what": …, "shard": …, "marker": FILE}. With a marker
it goes wrong once.
"""
import base64
import json
import os
import random
import sys
import time

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
behave = json.loads(os.environ.get("BEHAVE", "{}"))
shard = None
dies_next = False


def note(event, **more):
    line = {"event": event, "shard": shard, "pid": os.getpid(), **more}
    os.write(ledger, (json.dumps(line) + "\n").encode())


def say(message):
    sys.stdout.write("\n%s\n" % json.dumps(message))
    sys.stdout.flush()


def checkpoint(**where):
    say({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None, **where})
    answer = json.loads(sys.stdin.readline())
    assert answer["action"] == "checkpoint", answer
    note("checkpoint", error=answer["error"], **where)
    return answer["error"]


def misbehaves(what):
    if behave.get("what") != what or behave.get("shard", shard) != shard:
        return False
    marker = behave.get("marker")
    if marker:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
    return True


def chaos(rng):
    """Bytes that are no message, or are one out of turn."""
    kind = rng.randrange(6)
    if kind == 0:
        os.write(1, bytes(rng.randrange(256) for _ in range(rng.randrange(3000))) + b"\n")
    elif kind == 1:
        os.write(1, b"x" * rng.randrange(200_000) + b"\n")
    elif kind == 2:
        os.write(1, b"null\n{}\n[]\n{\"action\":\"\xff\"}\n" + b"{\"a\":" * rng.randrange(2000) + b"\r\n")
    elif kind == 3:
        say({"action": "status", "responseFor": rng.choice(["initialize", "processRecords", ""])})
    elif kind == 4:
        say({"action": "checkpoint", "sequenceNumber": rng.choice([7, "x", "9" * 60]), "subSequenceNumber": rng.choice([None, -1, "y", 5])})
    else:
        os._exit(rng.randrange(256))


while True:
    line = sys.stdin.readline()
    if not line:
        note("end of input")
        break
    message = json.loads(line)
    action = message["action"]
    shard = message.get("shardId", shard)
    if action == "processRecords":
        records = message["records"]
        if dies_next:
            os._exit(3)
        if misbehaves("die"):
            sys.stderr.write("last words\n")
            sys.stderr.flush()
            os._exit(3)
        if misbehaves("hang"):
            note("hangs")
            time.sleep(1000)
        if misbehaves("other answer"):
            say({"action": "status", "responseFor": "initialize"})
            continue
        if misbehaves("junk"):
            os.write(1, b"print: hello\nnull\n\r\n" + b"x" * 100_000 + b"\n")
        if misbehaves("chaos") and random.random() < 0.5:
            chaos(random)
            # Checkpoints' answers come, too.
        for record in records:
            data = base64.b64decode(record["data"]).decode()
            note("record", data=data, number=record["sequenceNumber"], sub=record["subSequenceNumber"])
        if misbehaves("checkpoint nonsense"):
            checkpoint(sequenceNumber="x")
        if not records:
            note("empty")
        elif not misbehaves("no checkpoint"):
            checkpoint(sequenceNumber=records[-1]["sequenceNumber"], subSequenceNumber=records[-1]["subSequenceNumber"])
    elif action == "checkpoint":
        continue
    else:
        note(action, number=message.get("sequenceNumber"))
        if misbehaves("hang in " + action):
            time.sleep(1000)
        if action == "initialize":
            if misbehaves("early checkpoint"):
                checkpoint()
        if action in ("shardEnded", "shutdownRequested"):
            checkpoint()
        if action == "leaseLost" and misbehaves("late checkpoint"):
            checkpoint()
    say({"action": "status", "responseFor": action})
    if action == "processRecords" and misbehaves("checkpoint when done"):
        say({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None})
        dies_next = True
    if action == "processRecords" and misbehaves("answer twice"):
        say({"action": "status", "responseFor": action})
