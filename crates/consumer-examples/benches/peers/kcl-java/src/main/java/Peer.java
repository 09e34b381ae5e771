import java.net.URI;
import java.util.Map;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/** A KCL worker that tells on standard output what the benchmark times: one line per event, as `examples/bench_worker.rs` prints them. */
public final class Peer {
    public static void main(String[] args) throws Exception {
        Map<String, String> env = System.getenv();
        var credentials = StaticCredentialsProvider.create(AwsBasicCredentials.create("AKIAPEER", "peer"));
        var region = Region.of(env.get("AWS_REGION"));
        var kinesis = KinesisAsyncClient.builder().region(region).credentialsProvider(credentials)
                .endpointOverride(URI.create(env.get("AWS_ENDPOINT_URL_KINESIS")))
                // The client's default is HTTP/2, which without TLS needs an endpoint that expects it.
                .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1)).build();
        var dynamodb = DynamoDbAsyncClient.builder().region(region).credentialsProvider(credentials)
                .endpointOverride(URI.create(env.get("AWS_ENDPOINT_URL_DYNAMODB"))).build();
        var cloudwatch = CloudWatchAsyncClient.builder().region(region).credentialsProvider(credentials).build();
        String stream = env.get("STREAM_NAME");
        var tracker = new SingleStreamTracker(stream,
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON));
        var configs = new ConfigsBuilder(tracker, env.get("APPLICATION_NAME"), kinesis, dynamodb, cloudwatch,
                env.get("INSTANCE_NAME"), Processor::new);
        var polling = new PollingConfig(stream, kinesis);
        if (env.containsKey("IDLE_MILLIS")) {
            polling.idleTimeBetweenReadsInMillis(Long.parseLong(env.get("IDLE_MILLIS")));
        }
        RetrievalSpecificConfig retrieval = "fanout".equals(env.get("RETRIEVAL"))
                ? new FanOutConfig(kinesis).streamName(stream).applicationName(env.get("APPLICATION_NAME"))
                : polling;
        var scheduler = new Scheduler(configs.checkpointConfig(), configs.coordinatorConfig(), configs.leaseManagementConfig(),
                configs.lifecycleConfig(), configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(), configs.retrievalConfig().retrievalSpecificConfig(retrieval));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                scheduler.startGracefulShutdown().get();
            } catch (Exception error) {
                System.err.println(error);
            }
        }));
        scheduler.run();
    }

    private static synchronized void tell(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static final class Processor implements ShardRecordProcessor {
        private String shard;

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            tell("started " + shard);
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            if (input.records().isEmpty()) {
                return;
            }
            tell("records " + shard + " " + input.records().size());
            try {
                input.checkpointer().checkpoint();
            } catch (Exception error) {
                System.err.println(error);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            tell("lost " + shard);
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            try {
                input.checkpointer().checkpoint();
                tell("ended " + shard);
            } catch (Exception error) {
                System.err.println(error);
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            try {
                input.checkpointer().checkpoint();
                tell("stopping " + shard);
            } catch (Exception error) {
                System.err.println(error);
            }
        }
    }
}
