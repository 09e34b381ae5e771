#!/usr/bin/env python3
"""A consumer with PyPI's amazon_kclpy. It writes what happens to the file LEDGER."""
import json
import os

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Processor(processor.RecordProcessorBase):
    def note(self, event, **more):
        line = {"event": event, "shard": self.shard, "pid": os.getpid(), **more}
        os.write(ledger, (json.dumps(line) + "\n").encode())

    def initialize(self, given):
        self.shard = given.shard_id
        self.note("initialize", number=given.sequence_number)

    def process_records(self, given):
        for record in given.records:
            assert record.approximate_arrival_timestamp.year > 2000
            self.note("record", data=record.binary_data.decode(), number=record.sequence_number, sub=record.sub_sequence_number)
        last = given.records[-1]
        self.checkpoint(given.checkpointer, last.sequence_number, last.sub_sequence_number)

    def checkpoint(self, checkpointer, number=None, sub=None):
        error = None
        try:
            checkpointer.checkpoint(number, sub)
        except kcl.CheckpointError as refused:
            error = refused.value
        self.note("checkpoint", error=error, sequenceNumber=number)

    def lease_lost(self, given):
        self.note("leaseLost")

    def shard_ended(self, given):
        self.note("shardEnded")
        self.checkpoint(given.checkpointer)

    def shutdown_requested(self, given):
        self.note("shutdownRequested")
        self.checkpoint(given.checkpointer)


kcl.KCLProcess(Processor()).run()
