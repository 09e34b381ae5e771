use std::time::Duration;

use kinesis_consumer::{InitialPosition, Retrieval};
use kinesis_edge::CredentialsSource;
use rstest::rstest;

use super::*;

const LEAST: &str = "executableName=python3 app.py\nstreamName=orders\napplicationName=billing\n\
                     AwsCredentialsProvider=DefaultCredentialsProvider\n";

fn host() -> Host {
    Host {
        name: "pod-1".to_owned(),
        is_pod: true,
        random: 7,
    }
}

fn of(text: &str) -> (Report, Option<Setup>) {
    read(&parse(text.as_bytes()).unwrap(), &host())
}

fn with(line: &str) -> (Report, Option<Setup>) {
    of(&format!("{LEAST}{line}\n"))
}

fn setup(line: &str) -> Setup {
    let (report, setup) = with(line);
    setup.unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_file_of_four_keys_is_fit() {
    let (report, setup) = of(LEAST);
    let warnings = report.warnings();
    assert!(
        matches!(&*warnings, [one] if one.starts_with("retrievalMode")),
        "{warnings:?}"
    );
    let setup = setup.unwrap();
    assert_eq!(setup.program, ["python3", "app.py"]);
    let config = setup.config;
    assert_eq!(
        (&*config.stream, &*config.lease_table, &*config.worker_id),
        ("orders", "billing", "pod-1")
    );
    assert_eq!(config.initial_position, InitialPosition::Latest);
    assert_eq!(config.shutdown_deadline, Duration::from_secs(10));
    assert_eq!((setup.timeout, setup.empty_lists_after), (None, None));
    let mut elsewhere = host();
    elsewhere.is_pod = false;
    let (_, setup) = read(&parse(LEAST.as_bytes()).unwrap(), &elsewhere);
    assert_eq!(setup.unwrap().config.worker_id, "pod-1-00000007");
}

#[test]
fn every_key_that_matters_reaches_the_worker() {
    let millis = Duration::from_millis;
    let config = |line: &str| setup(line).config;
    assert_eq!(
        config("tableName=billing-leases").lease_table,
        "billing-leases"
    );
    assert_eq!(config("workerId=w").worker_id, "w");
    assert_eq!(config("workerIdentifier=w").worker_id, "w");
    assert_eq!(config("maxRecords=100").max_records, 100);
    assert_eq!(config("pollingConfig.maxRecords=100").max_records, 100);
    assert_eq!(
        config("idleTimeBetweenReadsInMillis=1500")
            .times()
            .idle_between_reads,
        millis(1500)
    );
    assert_eq!(
        config("idleTimeBetweenReadsInMillis=1500")
            .times()
            .tip_read_interval,
        millis(1500)
    );
    assert_eq!(
        config("pollingConfig.idleTimeBetweenReadsInMillis=50")
            .times()
            .idle_between_reads,
        millis(200)
    );
    assert_eq!(
        config("failoverTimeMillis=20000").times().failover_time,
        millis(20_000)
    );
    assert_eq!(
        config("taskBackoffTimeMillis=100").processor_backoff,
        millis(100)
    );
    assert_eq!(
        config("parentShardPollIntervalMillis=100").parent_poll_interval,
        millis(100)
    );
    assert_eq!(
        config("shardSyncIntervalMillis=100")
            .times()
            .shard_sync_interval,
        millis(100)
    );
    assert_eq!(config("maxLeasesForWorker=3").max_leases, 3);
    assert_eq!(config("maxLeasesToStealAtOneTime=3").max_steals, 3);
    assert_eq!(
        setup("timeoutInSeconds=30").timeout,
        Some(Duration::from_secs(30))
    );
    assert_eq!(
        setup("shutdownGraceMillis=20000").config.shutdown_deadline,
        millis(20_000)
    );
    assert_eq!(setup("shutdownGraceMillis=0").grace, millis(10_000));
    let empty = setup("callProcessRecordsEvenForEmptyRecordList = Yes");
    assert_eq!(empty.empty_lists_after, Some(Duration::from_secs(1)));
    assert_eq!(
        setup("callProcessRecordsEvenForEmptyRecordList=false").empty_lists_after,
        None
    );
    let aws = setup("regionName=eu-west-1\nkinesisEndpoint=http://localhost:4566").aws;
    assert_eq!(aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!(
        aws.kinesis_endpoint.as_deref(),
        Some("http://localhost:4566")
    );
    let aws = setup(
        "dynamoDbClient.endpointOverride=http://localhost:8000\nkinesisClient.region=us-east-1",
    )
    .aws;
    assert_eq!(
        aws.dynamodb_endpoint.as_deref(),
        Some("http://localhost:8000")
    );
    assert_eq!(aws.kinesis_region.as_deref(), Some("us-east-1"));
}

#[rstest]
#[case("initialPositionInStream=trim_horizon", InitialPosition::TrimHorizon)]
#[case("initialPositionInStream=LATEST", InitialPosition::Latest)]
#[case("initialPositionInStreamExtended=1795756931", InitialPosition::AtTimestamp(jiff::Timestamp::from_second(1_795_756_931).unwrap()))]
#[case("initialPositionInStream=LATEST\ninitialPositionInStreamExtended=5", InitialPosition::AtTimestamp(jiff::Timestamp::from_second(5).unwrap()))]
fn the_start_is_where_the_file_says(#[case] line: &str, #[case] want: InitialPosition) {
    assert_eq!(setup(line).config.initial_position, want);
}

#[rstest]
#[case("retrievalMode=POLLING\nfanoutConfig.consumerName=c", None)]
#[case("retrievalMode=DEFAULT\nidleTimeBetweenReadsInMillis=500", None)]
#[case("retrievalMode=default", Some(None))]
#[case("retrievalMode=FANOUT", Some(None))]
#[case("retrievalMode=FANOUT\nmaxRecords=100", Some(None))]
#[case("retrievalMode=FANOUT\nfanoutConfig.consumerName=c", Some(Some("c")))]
#[case(
    "retrievalMode=FANOUT\nfanoutConfig.consumerName=c\nfanoutConfig.consumerArn=arn",
    Some(Some("arn"))
)]
fn records_come_as_the_file_says(#[case] lines: &str, #[case] want: Option<Option<&str>>) {
    let consumer = match setup(lines).config.retrieval {
        Retrieval::FanOut(fan_out) => Some(fan_out.consumer),
        _ => None,
    };
    assert_eq!(consumer, want.map(|name| name.map(str::to_owned)));
}

#[rstest]
#[case(
    "initialPositionInStream=AT_TIMESTAMP",
    "initialPositionInStreamExtended"
)]
#[case("initialPositionInStreamExtended=2026-11-23", "seconds since 1970")]
#[case("retrievalMode=fast", "want FANOUT, POLLING or DEFAULT")]
#[case("maxRecords=10001", "want 1 to 10000")]
#[case("timeoutInSeconds=x", "want whole seconds")]
#[case("timeoutInSeconds=0", "want whole seconds")]
#[case("kinesisEndpoint=localhost:4566", "want a URL")]
#[case("streamArn=orders", "want arn:aws:kinesis")]
#[case("regionName=eu_west_1", "want a region")]
#[case("tableName=my table", "want 3 to 255")]
#[case("clientVersionConfig=2", "want CLIENT_VERSION")]
#[case("failoverTimeMillis=99999999999999", "365 days")]
#[case("shardPrioritization=NoOpShardPrioritization", "Remove it")]
#[case("migrateAllEntitiesToLeaseTable=true", "changes tables for good")]
#[case("kinesisClient.httpClient=x", "region and endpointOverride")]
#[case(
    "awscredentialsproviderdynamodb=StaticCredentialsProvider",
    "no part of the file"
)]
fn what_cannot_be_done_is_refused_with_what_to_do_instead(#[case] line: &str, #[case] want: &str) {
    let (report, setup) = with(line);
    assert!(setup.is_none(), "{report}");
    let errors = report.errors().join("\n");
    let key = line.split('=').next().unwrap();
    assert!(errors.contains(want) && errors.contains(key), "{errors}");
}

#[rstest]
#[case("RetrievalMode=POLLING", "is retrievalMode meant?")]
#[case("failoverTimeMilis=1", "is failoverTimeMillis meant?")]
#[case("leaseTableName=x", "is tableName meant?")]
#[case("cloudWatchEndpoint=x", "unknown, and ignored")]
#[case("", "Java reads by enhanced fan-out")]
#[case("retrievalMode=DEFAULT", "enhanced fan-out")]
#[case("retrievalMode=DEFAULT\npollingConfig.maxRecords=100", "by polling")]
#[case("failoverTimeMillis=10s", "no whole number")]
#[case("failoverTimeMillis=0", "0 counts as unset")]
#[case("failoverTimeMillis=", "counts as unset")]
#[case("isGracefulLeaseHandoffEnabled=false", "always end the batch")]
#[case(
    "streamArn=arn:aws:kinesis:eu-west-1:111122223333:stream/other",
    "its name counts"
)]
fn what_a_user_should_know_is_a_warning(#[case] line: &str, #[case] want: &str) {
    let (report, setup) = with(line);
    assert!(setup.is_some(), "{report}");
    let warnings = report.warnings().join("\n");
    assert!(warnings.contains(want), "{warnings}");
}

#[rstest]
#[case("metricsLevel=NONE")]
#[case("processingLanguage=python/3.11")]
#[case("workerMetricsTags=a")]
#[case("pollingConfig.retryGetRecordsInSeconds=5")]
#[case("cloudWatchClient.endpointOverride=http://localhost:4566")]
#[case("AwsCredentialsProviderCloudWatch=DefaultCredentialsProvider")]
fn what_has_no_effect_is_no_warning(#[case] line: &str) {
    let (report, setup) = with(&format!("retrievalMode=POLLING\n{line}"));
    assert!(setup.is_some() && report.warnings().is_empty(), "{report}");
    assert!(report.to_string().contains("ignored: "), "{report}");
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let (report, setup) = of("");
    assert!(setup.is_none());
    let errors = report.errors().join("\n");
    for key in [
        "executableName",
        "applicationName",
        "streamName",
        "AwsCredentialsProvider",
    ] {
        assert!(errors.contains(key), "{errors}");
    }
}

/// Java would ask DynamoDB, whose answer speaks of a table.
#[rstest]
#[case("", false)]
#[case("tableName=billing", true)]
fn an_application_that_names_the_lease_table_has_a_name_for_it(
    #[case] line: &str,
    #[case] fit: bool,
) {
    let least = LEAST.replace("applicationName=billing", "applicationName=my app");
    let (report, _) = of(&format!("{least}{line}"));
    assert_eq!(report.is_fit(), fit, "{report}");
}

fn one(source: CredentialsSource) -> Provider {
    Provider::One(source)
}

#[rstest]
#[case("DefaultCredentialsProvider", vec![Provider::Default])]
#[case("DefaultAWSCredentialsProviderChain", vec![Provider::Default])]
#[case("com.amazonaws.auth.DefaultAWSCredentialsProviderChain", vec![Provider::Default])]
#[case(
    "EnvironmentVariableCredentialsProvider, InstanceProfileCredentialsProvider",
    vec![one(CredentialsSource::Environment), one(CredentialsSource::Instance)]
)]
#[case(
    "software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider|billing",
    vec![one(CredentialsSource::Profile(Some("billing".to_owned())))]
)]
#[case("ProfileCredentialsProvider", vec![one(CredentialsSource::Profile(None))])]
#[case("WebIdentityTokenFileCredentialsProvider", vec![one(CredentialsSource::WebIdentity)])]
#[case(
    "SystemPropertyCredentialsProvider,ContainerCredentialsProvider",
    vec![one(CredentialsSource::Container)]
)]
fn javas_providers_are_ours(#[case] value: &str, #[case] want: Vec<Provider>) {
    let aws = setup(&format!("awsCredentialsProvider={value}").replace("awsC", "AwsC")).aws;
    assert_eq!(aws.credentials, Credentials::Chain(want));
}

#[test]
fn the_default_chain_has_its_place_among_others() {
    let sources = |value: &str| {
        let aws = setup(&format!("AwsCredentialsProvider={value}")).aws;
        aws.credentials.sources()
    };
    assert_eq!(sources("DefaultCredentialsProvider"), None);
    assert_eq!(
        sources("DefaultCredentialsProvider,ProfileCredentialsProvider|a"),
        None
    );
    let mut want = vec![CredentialsSource::Profile(Some("billing".to_owned()))];
    want.extend(CredentialsSource::all());
    let chain = "ProfileCredentialsProvider|billing,DefaultCredentialsProvider";
    assert_eq!(sources(chain), Some(want));
}

#[test]
fn a_role_is_assumed() {
    let aws = setup(
        "AwsCredentialsProvider=StsAssumeRoleCredentialsProvider|arn:aws:iam::111122223333:role/r|s|\
         endpointRegion=eu-west-1|externalId=x",
    )
    .aws;
    let want = Credentials::Assume {
        role: "arn:aws:iam::111122223333:role/r".to_owned(),
        session: "s".to_owned(),
        region: Some("eu-west-1".to_owned()),
        external_id: Some("x".to_owned()),
    };
    assert_eq!(aws.credentials, want);
}

#[rstest]
#[case("NoSuchProvider")]
#[case("AnonymousCredentialsProvider")]
#[case("SystemPropertyCredentialsProvider")]
#[case("DefaultCredentialsProvider|profileName=billing")]
#[case("EnvironmentVariableCredentialsProvider|x")]
#[case("ProfileCredentialsProvider|profileName=billing")]
#[case("ProfileCredentialsProvider|/etc/aws/config|billing")]
#[case("StsAssumeRoleCredentialsProvider|a|b|endpointRegion=x|externalId=y|z")]
#[case("StsAssumeRoleCredentialsProvider|arn")]
#[case("StsAssumeRoleCredentialsProvider|a|b|endpoint=http://x^eu-west-1")]
#[case("StsAssumeRoleCredentialsProvider|a|b,DefaultCredentialsProvider")]
fn a_provider_that_is_none_is_refused(#[case] value: &str) {
    let (report, setup) = with(&format!("AwsCredentialsProvider={value}"));
    assert!(setup.is_none(), "{report}");
}
