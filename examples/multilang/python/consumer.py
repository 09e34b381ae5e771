"""A consumer without any library: one JSON object a line, both ways."""
import base64
import json
import sys


def say(message):
    print(json.dumps(message), flush=True)


def checkpoint():
    """All that was delivered is processed. The answer comes before anything else."""
    say({"action": "checkpoint"})
    error = json.loads(sys.stdin.readline())["error"]
    if error:
        print("checkpoint failed:", error, file=sys.stderr)


for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    action = message["action"]
    if action == "processRecords":
        for record in message["records"]:
            print(record["partitionKey"], base64.b64decode(record["data"]), file=sys.stderr)
        checkpoint()
    elif action in ("shardEnded", "shutdownRequested"):
        checkpoint()
    say({"action": "status", "responseFor": action})
