//! Keys → what the daemon does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use kinesis_consumer::{Config, FanOut, InitialPosition, Retrieval};
use kinesis_edge::is_region;
use url::Url;

use super::{
    credentials::{self, Credentials},
    reader::{LONGEST, Reader},
    report::Report,
};

/// What children get at the end, where the file does not say: the Java daemon gives none.
const GRACE: Duration = Duration::from_secs(10);
/// Keys of polling, by which `retrievalMode=DEFAULT` decides; also below `pollingConfig.`.
const POLLING_KEYS: [&str; 4] = [
    "maxRecords",
    "idleTimeBetweenReadsInMillis",
    "retryGetRecordsInSeconds",
    "maxGetRecordsThreadPool",
];

/// DynamoDB's rule.
const TABLE_NAME: &str = "want 3 to 255 of a-z, A-Z, 0-9, '_', '-' and '.'";

fn is_table_name(name: &str) -> bool {
    let allowed = |it: char| it.is_ascii_alphanumeric() || "_-.".contains(it);
    (3..=255).contains(&name.len()) && name.chars().all(allowed)
}

/// What the file says.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The child's program and its arguments.
    pub program: Vec<String>,
    /// The library's settings.
    pub config: Config,
    /// How long a child may take for one message. `None`: for ever.
    pub timeout: Option<Duration>,
    /// How long children have at the end.
    pub grace: Duration,
    /// `processRecords` without records is sent after this time without any. `None`: never.
    pub empty_lists_after: Option<Duration>,
    /// How AWS is asked.
    pub aws: Aws,
}

/// How AWS is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Aws {
    /// `None`: as the AWS SDK finds it.
    pub region: Option<String>,
    /// Kinesis' own region, where it has one.
    pub kinesis_region: Option<String>,
    /// DynamoDB's own region, where it has one.
    pub dynamodb_region: Option<String>,
    /// In place of AWS's own.
    pub kinesis_endpoint: Option<String>,
    /// In place of AWS's own.
    pub dynamodb_endpoint: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// Who asks DynamoDB, where that is somebody else.
    pub dynamodb_credentials: Option<Credentials>,
}

/// What the machine says.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Is its name a pod's, and so this worker's alone?
    pub is_pod: bool,
    /// Some digits, for a name that no other worker has.
    pub random: u64,
}

/// Reads all keys. The setup is `None` where the report is not fit.
pub fn read(entries: &BTreeMap<String, String>, host: &Host) -> (Report, Option<Setup>) {
    let mut reader = Reader {
        entries,
        read: BTreeSet::new(),
        asked: Vec::new(),
        report: Report::default(),
    };
    let setup = reader.setup(host);
    reader.rest();
    let setup = setup.filter(|_| reader.report.is_fit());
    (reader.report, setup)
}

impl Reader<'_> {
    /// Reads all keys, whatever is missing: all that is wrong is said at once.
    fn setup(&mut self, host: &Host) -> Option<Setup> {
        let program = self.required("executableName", "the program to run for each shard");
        let application = self.application();
        let stream = self.stream();
        let aws = self.aws();
        let worker = self.worker(host);
        let names = (stream.unwrap_or_default(), application.unwrap_or_default());
        let mut config = Config::new(names.0, names.1, worker);
        self.settings(&mut config);
        let timeout = self.timeout();
        let grace = self.millis("shutdownGraceMillis", 0, "the children's time at the end");
        let grace = grace.unwrap_or(GRACE);
        config.shutdown_deadline = grace;
        // A child has no place for rejects: who looks at what it gets decides.
        config.deliver_unfit_aggregates = true;
        config.retrieval = self.retrieval();
        let idle = config.times().idle_between_reads;
        let empty_lists_after = self
            .flag(
                "callProcessRecordsEvenForEmptyRecordList",
                "processRecords without records",
            )
            .filter(|wanted| *wanted)
            .map(|_| idle);
        let program = program?;
        let words = program.split(' ').filter(|word| !word.is_empty());
        Some(Setup {
            program: words.map(str::to_owned).collect(),
            config,
            timeout,
            grace,
            empty_lists_after,
            aws: aws?,
        })
    }

    /// The lease table has its name where `tableName` names none.
    fn application(&mut self) -> Option<String> {
        let application = self.required("applicationName", "the application's name")?;
        let table = self.entries.get("tableName");
        let is_table = table.is_none_or(|table| table.trim().is_empty());
        if is_table && !is_table_name(&application) {
            self.refuse(&format!(
                "the lease table has this name: {TABLE_NAME}; or set tableName"
            ));
            return None;
        }
        Some(application)
    }

    fn settings(&mut self, config: &mut Config) {
        if let Some(table) = self.text("tableName") {
            if !is_table_name(&table) {
                self.refuse(TABLE_NAME);
            }
            config.lease_table = table;
        }
        if let Some(position) = self.initial_position() {
            config.initial_position = position;
        }
        if let Some(most) = self.max_records() {
            config.max_records = most;
        }
        let idle = "idleTimeBetweenReadsInMillis";
        let idle = self
            .millis(idle, 200, "the pause between reads at the tip")
            .or_else(|| {
                self.millis(
                    "pollingConfig.idleTimeBetweenReadsInMillis",
                    200,
                    "the pause between reads at the tip",
                )
            });
        let times = [
            (idle, &mut config.idle_between_reads),
            // Who names a pause gets that one, also while records come.
            (idle, &mut config.tip_read_interval),
            (
                self.millis(
                    "failoverTimeMillis",
                    500,
                    "a lease not renewed for so long is free",
                ),
                &mut config.failover_time,
            ),
            (
                self.millis(
                    "shardSyncIntervalMillis",
                    1,
                    "how often shards and leases are compared",
                ),
                &mut config.shard_sync_interval,
            ),
        ];
        for (time, setting) in times {
            if time.is_some() {
                *setting = time;
            }
        }
        let times = [
            (
                self.millis(
                    "taskBackoffTimeMillis",
                    1,
                    "the first wait after a child failed",
                ),
                &mut config.processor_backoff,
            ),
            (
                self.millis(
                    "parentShardPollIntervalMillis",
                    1,
                    "how often a shard asks for its parents",
                ),
                &mut config.parent_poll_interval,
            ),
        ];
        for (time, setting) in times {
            if let Some(time) = time {
                *setting = time;
            }
        }
        if let Some(most) = self.number("maxLeasesForWorker", "leases held at most") {
            config.max_leases = usize::try_from(most).unwrap_or(usize::MAX);
        }
        if let Some(most) = self.number(
            "maxLeasesToStealAtOneTime",
            "leases taken from KCL 2.x at a time",
        ) {
            config.max_steals = usize::try_from(most).unwrap_or(usize::MAX);
        }
        if let Some(false) = self.flag(
            "isGracefulLeaseHandoffEnabled",
            "hand-overs end the batch at hand",
        ) {
            self.note("hand-overs between these workers always end the batch at hand");
        }
        if let Some(version) = self.text("clientVersionConfig") {
            match version.as_str() {
                "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X"
                | "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1" => {}
                "CLIENT_VERSION_CONFIG_3X" => self.note(
                    "leases are shared by KCL 2.x's rules: beside workers that a KCL 3 leader leads \
                     the daemon does not start",
                ),
                _ => self.refuse(
                    "want CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X, \
                     CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1 or CLIENT_VERSION_CONFIG_3X",
                ),
            }
        }
    }

    fn stream(&mut self) -> Option<String> {
        let arn = self.text("streamArn");
        let parts: Vec<_> = arn.iter().flat_map(|arn| arn.split(':')).collect();
        if arn.is_some() {
            let name = match parts[..] {
                ["arn", _, "kinesis", _, _, resource] => resource.strip_prefix("stream/"),
                _ => None,
            };
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                self.refuse("want arn:aws:kinesis:REGION:ACCOUNT:stream/NAME");
                return None;
            };
            self.note("its name counts, in the region and account of the client, as in Java");
            if self.text("streamName").is_some_and(|other| other != name) {
                self.note(&format!("streamArn wins: {name} is read"));
            }
            return Some(name.to_owned());
        }
        let name = self.text("streamName");
        if name.is_none() {
            self.report
                .missing
                .push(("streamName", "the stream's name, or streamArn"));
        }
        name
    }

    fn worker(&mut self, host: &Host) -> String {
        let named = self.text("workerIdentifier");
        let named = named.or_else(|| self.text("workerId"));
        named.unwrap_or_else(|| match host.is_pod {
            true => host.name.clone(),
            false => format!("{}-{:08x}", host.name, host.random & 0xffff_ffff),
        })
    }

    fn initial_position(&mut self) -> Option<InitialPosition> {
        let seconds = self
            .text("initialPositionInStreamExtended")
            .and_then(|text| {
                let time = text
                    .parse()
                    .ok()
                    .and_then(|seconds| Timestamp::from_second(seconds).ok());
                match time {
                    Some(time) => self.done(&format!("a new application starts at {time}")),
                    None => self.refuse("want whole seconds since 1970, such as 1795756931"),
                }
                time
            });
        let named = self.text("initialPositionInStream").and_then(|text| {
            let position = match text.to_ascii_uppercase().as_str() {
                "LATEST" => InitialPosition::Latest,
                "TRIM_HORIZON" => InitialPosition::TrimHorizon,
                _ => {
                    self.refuse(
                        "want LATEST or TRIM_HORIZON, or a time in initialPositionInStreamExtended",
                    );
                    return None;
                }
            };
            if seconds.is_some() {
                self.note("initialPositionInStreamExtended wins");
            }
            Some(position)
        });
        seconds.map(InitialPosition::AtTimestamp).or(named)
    }

    fn max_records(&mut self) -> Option<u32> {
        let what = "records of one call at most";
        let most = self.number("maxRecords", what);
        let most = most.or_else(|| self.number("pollingConfig.maxRecords", what))?;
        if most > 10_000 {
            self.refuse("want 1 to 10000");
            return None;
        }
        u32::try_from(most).ok()
    }

    /// Here 0 does not count as unset: the Java daemon would end at once.
    fn timeout(&mut self) -> Option<Duration> {
        let text = self.text("timeoutInSeconds")?;
        match text.parse::<u64>() {
            Ok(seconds) if (1..=LONGEST.as_secs()).contains(&seconds) => {
                self.done("a child that takes longer for a message is started anew");
                Some(Duration::from_secs(seconds))
            }
            _ => {
                self.refuse("want whole seconds from 1, or no such key");
                None
            }
        }
    }

    fn retrieval(&mut self) -> Retrieval {
        let Some(mode) = self.text("retrievalMode") else {
            self.unset(
                "retrievalMode",
                "Java reads by enhanced fan-out then; here reading is by polling, which shares the \
                 shards' 2 MiB and 5 calls a second with other applications: want FANOUT for the same",
            );
            return Retrieval::Polling;
        };
        match mode.to_ascii_uppercase().as_str() {
            "POLLING" => return Retrieval::Polling,
            "FANOUT" => self.done("enhanced fan-out: the consumer is registered, and stays"),
            // As Java reads it.
            "DEFAULT" if self.has_polling_keys() => {
                self.note("reading is by polling, as a key of polling is set");
                return Retrieval::Polling;
            }
            "DEFAULT" => self.note("enhanced fan-out, as no key of polling is set"),
            _ => {
                self.refuse("want FANOUT, POLLING or DEFAULT");
                return Retrieval::Polling;
            }
        }
        let name = self.text("fanoutConfig.consumerName");
        let mut fan_out = FanOut::default();
        fan_out.consumer = self.text("fanoutConfig.consumerArn").or(name);
        Retrieval::FanOut(fan_out)
    }

    fn has_polling_keys(&self) -> bool {
        let is_set = |key: &str| {
            let value = self.entries.get(key);
            value.is_some_and(|value| !value.trim().is_empty())
        };
        let mut keys = POLLING_KEYS.iter();
        keys.any(|key| is_set(key) || is_set(&format!("pollingConfig.{key}")))
    }

    fn region(&mut self, key: &'static str) -> Option<String> {
        let region = self.text(key)?;
        if !is_region(&region) {
            self.refuse("want a region, such as eu-west-1");
        }
        Some(region)
    }

    fn aws(&mut self) -> Option<Aws> {
        let credentials = self.credentials("AwsCredentialsProvider");
        let written = self.read_as("AwsCredentialsProvider");
        let written = written.and_then(|name| self.entries.get(name));
        // A wrong one is refused.
        if credentials.is_none() && written.is_none_or(|value| value.trim().is_empty()) {
            self.report.missing.push((
                "AwsCredentialsProvider",
                "DefaultCredentialsProvider, or another one",
            ));
        }
        let dynamodb_credentials = self.credentials("AwsCredentialsProviderDynamoDB");
        let kinesis_endpoint = self.endpoint("kinesisEndpoint");
        let dynamodb_endpoint = self.endpoint("dynamoDBEndpoint");
        Some(Aws {
            region: self.region("regionName"),
            kinesis_region: self.region("kinesisClient.region"),
            dynamodb_region: self.region("dynamoDbClient.region"),
            kinesis_endpoint: kinesis_endpoint
                .or_else(|| self.endpoint("kinesisClient.endpointOverride")),
            dynamodb_endpoint: dynamodb_endpoint
                .or_else(|| self.endpoint("dynamoDbClient.endpointOverride")),
            credentials: credentials?,
            dynamodb_credentials,
        })
    }

    fn credentials(&mut self, key: &'static str) -> Option<Credentials> {
        let value = self.text(key)?;
        match credentials::parse(&value) {
            Ok(credentials) => Some(credentials),
            Err(instead) => {
                self.refuse(&instead);
                None
            }
        }
    }

    fn endpoint(&mut self, key: &'static str) -> Option<String> {
        let value = self.text(key)?;
        let url = Url::parse(&value).ok();
        let is_fit = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !url.as_ref().is_some_and(is_fit) {
            self.refuse(
                "want a URL with its scheme, such as https://kinesis.eu-west-1.amazonaws.com",
            );
            return None;
        }
        Some(value)
    }
}
