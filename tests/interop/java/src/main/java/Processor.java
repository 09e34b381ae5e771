import java.nio.charset.StandardCharsets;
import java.util.List;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * Reports each record, then checkpoints. Halfway: processes up to the first record of the batch's
 * last aggregate, checkpoints there, and does nothing more. It does not block, which would keep the
 * KCL from starting other shards: its loop waits for this one's lock.
 */
final class Processor implements ShardRecordProcessor {
    private final boolean halfway;
    /** The stream with a colon after it, where there are several. */
    private final String stream;
    private String shard;
    private boolean stopped;

    Processor(boolean halfway, String stream) {
        this.halfway = halfway;
        this.stream = stream;
    }

    @Override
    public void initialize(InitializationInput input) {
        shard = stream + input.shardId();
        report("started " + shard + "\n");
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
        if (stopped) {
            return;
        }
        List<KinesisClientRecord> records = input.records();
        int stop = halfway ? insideLastAggregate(records) : -1;
        var lines = new StringBuilder();
        for (KinesisClientRecord record : stop < 0 ? records : records.subList(0, stop + 1)) {
            lines.append("record ").append(shard).append(' ').append(record.sequenceNumber()).append(' ')
                    .append(record.subSequenceNumber()).append(' ')
                    .append(StandardCharsets.US_ASCII.decode(record.data().duplicate())).append('\n');
        }
        report(lines.toString());
        if (stop < 0) {
            checkpoint(input.checkpointer());
            return;
        }
        try {
            input.checkpointer().checkpoint(records.get(stop).sequenceNumber(), records.get(stop).subSequenceNumber());
            report("halfway " + shard + "\n");
            stopped = true;
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    /** The index of the first record of the last aggregate that has more than one; -1 without such. */
    private static int insideLastAggregate(List<KinesisClientRecord> records) {
        for (int i = records.size() - 2; i >= 0; i--) {
            if (records.get(i).aggregated() && records.get(i).subSequenceNumber() == 0
                    && records.get(i + 1).sequenceNumber().equals(records.get(i).sequenceNumber())) {
                return i;
            }
        }
        return -1;
    }

    @Override
    public void leaseLost(LeaseLostInput input) {
        report("lost " + shard + "\n");
    }

    @Override
    public void shardEnded(ShardEndedInput input) {
        if (stopped) {
            return;
        }
        checkpoint(input.checkpointer());
        report("ended " + shard + "\n");
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
        if (stopped) {
            return;
        }
        checkpoint(input.checkpointer());
        report("stopping " + shard + "\n");
    }

    private void checkpoint(RecordProcessorCheckpointer checkpointer) {
        try {
            checkpointer.checkpoint();
        } catch (ShutdownException error) {
            // Another worker has the lease: what was not checkpointed comes again there.
            report("late " + shard + "\n");
        } catch (Exception error) {
            System.err.println("[processor] ERROR Processor - " + error);
        }
    }

    /** In one write, and before the checkpoint: what a killed worker has checkpointed, it has reported. */
    private static void report(String lines) {
        synchronized (System.out) {
            System.out.print(lines);
            System.out.flush();
        }
    }
}
