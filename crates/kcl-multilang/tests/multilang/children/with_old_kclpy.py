#!/usr/bin/env python3
"""A consumer with an amazon_kclpy of KCL 1.x. It writes what happens to the file LEDGER."""
import json
import os

from amazon_kclpy import kcl
from amazon_kclpy.v2 import processor

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Processor(processor.RecordProcessorBase):
    def note(self, event, **more):
        line = {"event": event, "shard": self.shard, "pid": os.getpid(), **more}
        os.write(ledger, (json.dumps(line) + "\n").encode())

    def initialize(self, given):
        self.shard = given.shard_id
        self.note("initialize")

    def process_records(self, given):
        for record in given.records:
            self.note("record", data=record.binary_data.decode())
        given.checkpointer.checkpoint()

    def shutdown(self, given):
        self.note("shutdown", reason=given.reason)

    def shutdown_requested(self, given):
        self.note("shutdownRequested")
        given.checkpointer.checkpoint()


kcl.KCLProcess(Processor()).run()
