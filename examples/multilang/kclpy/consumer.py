"""A consumer with PyPI's amazon_kclpy."""
import sys

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor


class Consumer(processor.RecordProcessorBase):
    def initialize(self, given):
        self.shard = given.shard_id

    def process_records(self, given):
        # An exception here would be reported as success: catch what must not be lost.
        for record in given.records:
            print(self.shard, record.partition_key, record.binary_data, file=sys.stderr)
        given.checkpointer.checkpoint()

    def lease_lost(self, given):
        pass

    def shard_ended(self, given):
        given.checkpointer.checkpoint()

    def shutdown_requested(self, given):
        given.checkpointer.checkpoint()


kcl.KCLProcess(Consumer()).run()
