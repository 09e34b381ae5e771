import software.amazon.kinesis.common.StreamIdentifier;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.ShardRecordProcessorFactory;

/** Makes a processor for each shard, which knows its stream where there are several. */
record Processors(boolean halfway) implements ShardRecordProcessorFactory {
    @Override
    public ShardRecordProcessor shardRecordProcessor() {
        return new Processor(halfway, "");
    }

    @Override
    public ShardRecordProcessor shardRecordProcessor(StreamIdentifier stream) {
        // Of a single stream it is the name alone.
        String text = stream.serialize();
        return new Processor(halfway, text.contains(":") ? text + ":" : "");
    }
}
