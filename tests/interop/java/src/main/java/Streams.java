import java.util.Arrays;
import java.util.List;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.StreamConfig;
import software.amazon.kinesis.common.StreamIdentifier;
import software.amazon.kinesis.processor.FormerStreamsLeasesDeletionStrategy;
import software.amazon.kinesis.processor.FormerStreamsLeasesDeletionStrategy.NoLeaseDeletionStrategy;
import software.amazon.kinesis.processor.MultiStreamTracker;

/** The streams of KCL's multi-stream mode: always the same. */
final class Streams implements MultiStreamTracker {
    private final List<StreamConfig> configs;

    Streams(String identifiers, InitialPositionInStreamExtended start) {
        configs = Arrays.stream(identifiers.split(","))
                .map(identifier -> new StreamConfig(StreamIdentifier.multiStreamInstance(identifier), start)).toList();
    }

    @Override
    public List<StreamConfig> streamConfigList() {
        return configs;
    }

    @Override
    public FormerStreamsLeasesDeletionStrategy formerStreamsLeasesDeletionStrategy() {
        return new NoLeaseDeletionStrategy();
    }
}
