import java.net.URI;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
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
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.processor.StreamTracker;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A KCL worker with short timers that reports on standard output, line by line, as
 * {@code src/bin/interop-worker.rs} does.
 */
public final class Worker {
    public static void main(String[] args) throws Exception {
        Map<String, String> env = System.getenv();
        var region = Region.of(env.get("AWS_REGION"));
        var credentials = StaticCredentialsProvider.create(
                AwsBasicCredentials.create(env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")));
        var kinesis = KinesisAsyncClient.builder().region(region).credentialsProvider(credentials)
                .endpointOverride(URI.create(env.get("AWS_ENDPOINT_URL_KINESIS")))
                // The client's default is HTTP/2, which without TLS needs an endpoint that expects it.
                .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1)).build();
        var dynamodb = DynamoDbAsyncClient.builder().region(region).credentialsProvider(credentials)
                .endpointOverride(URI.create(env.get("AWS_ENDPOINT_URL_DYNAMODB"))).build();
        // Never called: the metrics below go nowhere.
        var cloudwatch = CloudWatchAsyncClient.builder().region(region).credentialsProvider(credentials).build();

        String stream = env.get("STREAM_NAME");
        // Several: account:name:epoch of each.
        String streams = env.get("STREAMS");
        var start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        boolean halfway = env.containsKey("HALFWAY");
        StreamTracker tracker = streams == null
                ? new SingleStreamTracker(stream, start) : new Streams(streams, start);
        var configs = new ConfigsBuilder(tracker, env.get("APPLICATION_NAME"), kinesis, dynamodb, cloudwatch,
                env.get("WORKER_ID"), new Processors(halfway));
        var coordinator = configs.coordinatorConfig()
                .parentShardPollIntervalMillis(500)
                .shardConsumerDispatchPollIntervalMillis(200);
        var leases = configs.leaseManagementConfig()
                .failoverTimeMillis(Long.parseLong(env.get("FAILOVER_MILLIS")))
                .shardSyncIntervalMillis(1_000)
                .leasesRecoveryAuditorExecutionFrequencyMillis(2_000);
        Version.configure(coordinator, leases);
        var polling = streams == null ? new PollingConfig(stream, kinesis) : new PollingConfig(kinesis);
        polling.idleTimeBetweenReadsInMillis(1_000);
        RetrievalSpecificConfig retrieval = env.containsKey("FAN_OUT")
                ? new FanOutConfig(kinesis).streamName(stream).applicationName(env.get("APPLICATION_NAME"))
                : polling;
        var scheduler = new Scheduler(configs.checkpointConfig(), coordinator, leases, configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()), configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(retrieval));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                scheduler.startGracefulShutdown().get(15, TimeUnit.SECONDS);
            } catch (TimeoutException error) {
                System.err.println("[shutdown] WARN Worker - graceful shutdown takes too long");
            } catch (Exception error) {
                System.err.println("[shutdown] ERROR Worker - " + error);
            }
        }));
        scheduler.run();
    }
}
