//! The Java daemon's keys that have no effect here, or are refused.

use super::report::Verdict;

const KCL3: &str = "it is of KCL 3's own assignment of leases";
const JVM: &str = "it is of the JVM's threads or caches";
const CAPACITY: &str =
    "a lease table that is made here is billed by request; change it with DynamoDB";
const CLOUDWATCH: &str =
    "nothing is published to CloudWatch: metrics are served on the admin port (--admin)";
const RETRIES: &str = "failed calls are repeated with backoff, and told";
const FANOUT: &str = "reading is by polling: it is of retrievalMode=FANOUT";
const TIP: &str = "a shard at its tip is read less often";

/// Keys without an effect: and why.
const IGNORED: [(&str, &str); 55] = [
    ("processingLanguage", "it was a part of a user agent"),
    ("maxActiveThreads", JVM),
    ("maxLeaseRenewalThreads", JVM),
    ("maxGetRecordsThreadPool", JVM),
    ("retryGetRecordsInSeconds", RETRIES),
    ("pollingConfig.maxGetRecordsThreadPool", JVM),
    ("pollingConfig.retryGetRecordsInSeconds", RETRIES),
    (
        "pollingConfig.millisBehindLatestThresholdForReducedTps",
        TIP,
    ),
    ("listShardsBackoffTimeInMillis", RETRIES),
    ("maxListShardsRetryAttempts", RETRIES),
    ("schedulerInitializationBackoffTimeMillis", RETRIES),
    (
        "validateSequenceNumberBeforeCheckpointing",
        "every checkpoint is validated",
    ),
    (
        "cleanupLeasesUponShardCompletion",
        "finished leases are deleted as KCL does by default",
    ),
    (
        "ignoreUnexpectedChildShards",
        "children that nobody expects are read",
    ),
    (
        "enablePriorityLeaseAssignment",
        "free leases are taken at once",
    ),
    ("initialLeaseTableReadCapacity", CAPACITY),
    ("initialLeaseTableWriteCapacity", CAPACITY),
    ("billingMode", CAPACITY),
    ("leaseTableDeletionProtectionEnabled", CAPACITY),
    ("leaseTablePitrEnabled", CAPACITY),
    (
        "leaseTableScanTotalSegments",
        "the table is read in one pass",
    ),
    (
        "skipShardSyncAtWorkerInitializationIfLeasesExist",
        "the start does not wait for it",
    ),
    ("logWarningForTaskAfterMillis", "what fails is told at once"),
    ("millisBehindLatestThresholdForReducedTps", TIP),
    ("metricsLevel", CLOUDWATCH),
    ("metricsBufferTimeMillis", CLOUDWATCH),
    ("metricsMaxQueueSize", CLOUDWATCH),
    ("metricsEnabledDimensions", CLOUDWATCH),
    ("fanoutConfig.consumerArn", FANOUT),
    ("fanoutConfig.consumerName", FANOUT),
    ("fanoutConfig.maxDescribeStreamSummaryRetries", RETRIES),
    ("fanoutConfig.maxDescribeStreamConsumerRetries", RETRIES),
    ("fanoutConfig.registerStreamConsumerRetries", RETRIES),
    ("fanoutConfig.retryBackoffMillis", RETRIES),
    ("leaseAssignmentIntervalMillis", KCL3),
    ("disableWorkerMetrics", KCL3),
    ("inMemoryWorkerMetricsCaptureFrequencyMillis", KCL3),
    ("workerMetricsReporterFreqInMillis", KCL3),
    ("noOfPersistedMetricsPerWorkerMetrics", KCL3),
    ("maxThroughputPerHostKBps", KCL3),
    ("dampeningPercentage", KCL3),
    ("reBalanceThresholdPercentage", KCL3),
    ("allowThroughputOvershoot", KCL3),
    ("varianceBalancingFrequency", KCL3),
    ("workerMetricsEMAAlpha", KCL3),
    ("staleWorkerMetricsEntryCleanupDuration", KCL3),
    (
        "gracefulLeaseHandoffTimeoutMillis",
        "a hand-over waits for the batch at hand",
    ),
    ("workerMetricsTableName", KCL3),
    ("workerMetricsBillingMode", KCL3),
    ("workerMetricsReadCapacity", KCL3),
    ("workerMetricsWriteCapacity", KCL3),
    ("coordinatorStateTableName", KCL3),
    ("coordinatorStateBillingMode", KCL3),
    ("coordinatorStateReadCapacity", KCL3),
    ("coordinatorStateWriteCapacity", KCL3),
];

/// The rest of a name, behind `workerMetrics` or `coordinatorState`.
const OF_TABLES: [&str; 3] = [
    "PointInTimeRecoveryEnabled",
    "DeletionProtectionEnabled",
    "Tags",
];

/// Keys that the daemon does not start with: and what to do instead.
const REFUSED: [(&str, &str); 3] = [
    ("shardPrioritization", "it fails in Java, too. Remove it"),
    (
        "migrateAllEntitiesToLeaseTable",
        "it changes tables for good. Let a Java worker do it, or remove it",
    ),
    (
        "tableMigrationCompleteBakeTimeSeconds",
        "it changes tables for good. Let a Java worker do it, or remove it",
    ),
];

/// Clients whose own settings the Java daemon takes by reflection.
const CLIENTS: [&str; 3] = ["kinesisClient.", "dynamoDbClient.", "cloudWatchClient."];

/// What becomes of a key that nobody asked for. `asked`: the keys that have an effect.
pub(super) fn verdict<'a>(key: &str, asked: impl Iterator<Item = &'a str>) -> Verdict {
    if let Some((_, why)) = IGNORED.iter().find(|(known, _)| *known == key) {
        return Verdict::Ignored((*why).to_owned());
    }
    for tables in ["workerMetrics", "coordinatorState"] {
        let rest = key.strip_prefix(tables);
        if rest.is_some_and(|rest| OF_TABLES.contains(&rest)) {
            return Verdict::Ignored(KCL3.to_owned());
        }
    }
    if key.starts_with("cloudWatchClient.") || is_of_cloudwatch(key) {
        return Verdict::Ignored(CLOUDWATCH.to_owned());
    }
    if let Some((_, instead)) = REFUSED.iter().find(|(known, _)| *known == key) {
        return Verdict::Refused((*instead).to_owned());
    }
    if CLIENTS.iter().any(|client| key.starts_with(client)) {
        let instead =
            "of a client's settings, region and endpointOverride are understood. Remove it";
        return Verdict::Refused(instead.to_owned());
    }
    Verdict::Unknown(nearest(key, asked))
}

fn is_of_cloudwatch(key: &str) -> bool {
    key.to_ascii_lowercase()
        .starts_with("awscredentialsprovidercloudwatch")
}

fn nearest<'a>(key: &str, asked: impl Iterator<Item = &'a str>) -> Option<String> {
    let known = IGNORED.iter().map(|(known, _)| *known);
    let key = key.to_ascii_lowercase();
    let like = |known: &str| {
        let known = known.to_ascii_lowercase();
        // leaseTableName is tableName rather than leaseTablePitrEnabled.
        if key.ends_with(&known) {
            return 1.0;
        }
        strsim::jaro_winkler(&known, &key)
    };
    asked
        .chain(known)
        .map(|known| (like(known), known))
        .filter(|(like, _)| *like > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}
