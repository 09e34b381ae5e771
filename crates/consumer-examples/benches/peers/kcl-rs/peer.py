"""A kcl-rs worker that tells on standard output what the benchmark times, as examples/bench_worker.rs does.

pip install kcl-rs==0.1.4
"""

import os
import signal
import threading

from kcl_rs import RecordProcessorBase, Scheduler


def tell(line):
    os.write(1, (line + "\n").encode())


class Processor(RecordProcessorBase):
    def initialize(self, initialize_input):
        self.shard = initialize_input.shard_id
        tell(f"started {self.shard}")

    def process_records(self, process_records_input):
        records = process_records_input.records
        if records:
            tell(f"records {self.shard} {len(records)}")
            process_records_input.checkpointer.checkpoint()

    def lease_lost(self, lease_lost_input):
        tell(f"lost {self.shard}")

    def shard_ended(self, shard_ended_input):
        shard_ended_input.checkpointer.checkpoint()
        tell(f"ended {self.shard}")

    def shutdown_requested(self, shutdown_requested_input):
        shutdown_requested_input.checkpointer.checkpoint()
        tell(f"stopping {self.shard}")


def main():
    settings = {}
    if "IDLE_MILLIS" in os.environ:
        settings["idle_time_between_reads_millis"] = int(os.environ["IDLE_MILLIS"])
    scheduler = Scheduler(
        stream_name=os.environ["STREAM_NAME"],
        application_name=os.environ["APPLICATION_NAME"],
        worker_identifier=os.environ["INSTANCE_NAME"],
        record_processor_factory=Processor,
        region=os.environ["AWS_REGION"],
        initial_position="TRIM_HORIZON",
        retrieval_mode="POLLING",
        **settings,
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    scheduler.start()
    while not stop.wait(0.1):
        pass
    scheduler.shutdown()


main()
