//! One source before one scaler: a Kinesis of its own, a lease table of its own, and whoever asks.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::{EmbeddedKinesis, FOREVER, Fault};
use futures::FutureExt as _;
use keda_kinesis_scaler::proto::{IsActiveResponse, ScaledObjectRef};
use test_support::Proxy;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::table::Told;
use crate::support::*;

const DESCRIBE: &str = "DescribeStreamSummary";
const SHARDS: i32 = 3;

/// Fetches that meet a fault before an answer counts.
const FETCHES: u64 = 3;

/// What a trigger scales on, and how its source is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    OpenShards,
    /// ListShards is denied as well.
    Unlisted,
    /// DescribeStreamSummary is throttled as well.
    Spent,
    ReadableShards,
    /// A pod runs and one shard has an unread record.
    Lag,
    /// No pod runs, and all is read.
    LagAtZero,
}

/// Replicas and activity, as they are in truth.
#[derive(Clone, Copy, Debug)]
struct Truth {
    value: f64,
    active: bool,
}

impl Mode {
    pub(super) const ALL: [Self; 6] = [
        Self::OpenShards,
        Self::Unlisted,
        Self::Spent,
        Self::ReadableShards,
        Self::Lag,
        Self::LagAtZero,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenShards => "`openShards`",
            Self::Unlisted => "`openShards` without ListShards",
            Self::Spent => "`openShards`, DescribeStreamSummary throttled",
            Self::ReadableShards => "`readableShards`",
            Self::Lag => "`lag`",
            Self::LagAtZero => "`lag` at zero",
        }
    }

    /// What is called for it.
    pub(super) fn operations(self) -> &'static [&'static str] {
        match self {
            Self::OpenShards | Self::Unlisted => &[DESCRIBE],
            Self::Spent => &["ListShards"],
            Self::ReadableShards => &["ListShards", "Scan"],
            Self::Lag | Self::LagAtZero => {
                &["ListShards", "Scan", "GetShardIterator", "GetRecords"]
            }
        }
    }

    /// What each fetch calls first.
    fn first(self) -> &'static str {
        match self {
            Self::OpenShards | Self::Unlisted | Self::Spent => DESCRIBE,
            _ => "Scan",
        }
    }

    fn truth(self) -> Truth {
        let value = match self {
            Self::OpenShards | Self::Unlisted | Self::Spent | Self::ReadableShards => 3.0,
            // KEDA goes to zero by activity alone.
            Self::Lag | Self::LagAtZero => 1.0,
        };
        let active = self != Self::LagAtZero;
        Truth { value, active }
    }

    fn metadata(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OpenShards | Self::Unlisted | Self::Spent => &[],
            Self::ReadableShards => &[("scaleOn", "readableShards")],
            // No record becomes so old.
            Self::Lag | Self::LagAtZero => &[("scaleOn", "lag"), ("lagThreshold", "10h")],
        }
    }
}

/// One source before one scaler.
pub(super) struct Side {
    mode: Mode,
    kinesis: EmbeddedKinesis,
    dynamodb: Proxy,
    client: Client,
    object: ScaledObjectRef,
    /// Calls of the operation that fails, and first calls of fetches, when the fault began.
    before: std::sync::Mutex<(&'static str, u64, u64)>,
    _pod: Option<AbortOnDropHandle<()>>,
}

impl Side {
    pub(super) async fn start(scaler: &Stack, dynamodb: &DynamoDb, mode: Mode, name: &str) -> Self {
        let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
        let kinesis = kinesis.await.unwrap();
        let aws = aws(&kinesis);
        create_stream(&aws, "orders", SHARDS).await;
        let proxy = Proxy::start(&dynamodb.endpoint()).await;
        let (aws_endpoint, table_endpoint) = (kinesis.endpoint(), proxy.endpoint());
        let mut keys = metadata(&[
            ("streamName", "orders"),
            ("awsRegion", REGION),
            ("awsEndpoint", &aws_endpoint),
        ]);
        keys.extend(metadata(mode.metadata()));
        let mut pod = None;
        if mode.first() == "Scan" {
            keys.extend(metadata(&[
                ("applicationName", name),
                ("leaseTableEndpoint", &table_endpoint),
                ("shardCount", "1"),
            ]));
            leases(dynamodb, name, mode == Mode::Lag).await;
            if mode == Mode::Lag {
                let put = aws.put_record().stream_name("orders");
                let put = put.explicit_hash_key("0").partition_key("key");
                put.data(Blob::new("data")).send().await.unwrap();
                let beats = beat(dynamodb.client.clone(), name.to_owned());
                pod = Some(AbortOnDropHandle::new(tokio::spawn(beats)));
            }
        }
        let side = Self {
            mode,
            kinesis,
            dynamodb: proxy,
            client: scaler.client().await,
            object: ScaledObjectRef {
                name: name.to_owned(),
                namespace: "team-a".to_owned(),
                scaler_metadata: keys,
            },
            before: std::sync::Mutex::default(),
            _pod: pod,
        };
        side.heal();
        side
    }

    /// Nothing fails but what always does in this mode.
    pub(super) fn heal(&self) {
        self.dynamodb.faults().clear();
        let faults = self.kinesis.faults();
        faults.clear();
        match self.mode {
            Mode::Unlisted => faults.inject("ListShards", Fault::access_denied(), FOREVER),
            Mode::Spent => faults.inject(DESCRIBE, Fault::throttling(), FOREVER),
            _ => {}
        }
    }

    /// From here on every call of the operation fails.
    pub(super) fn begin(&self, operation: &'static str, fault: &Fault) {
        *self.before.lock().unwrap() = (operation, self.calls(operation), self.fetches());
        let faults = match operation {
            "Scan" => self.dynamodb.faults(),
            _ => self.kinesis.faults(),
        };
        faults.inject(operation, fault.clone(), FOREVER);
    }

    fn calls(&self, operation: &str) -> u64 {
        match operation {
            "Scan" => self.dynamodb.tally("Scan").calls,
            _ => self.kinesis.count(operation) as u64,
        }
    }

    fn fetches(&self) -> u64 {
        self.calls(self.mode.first())
    }

    /// Waits for the right value.
    pub(super) async fn right(&self, when: &str) -> Result<(), String> {
        self.until(when, |last, _| *last == Told::Answered).await?;
        Ok(())
    }

    /// What is told once the fault was met by some fetches and the time has come; where an answer
    /// is wanted, once that comes.
    pub(super) async fn told(
        &self,
        when: &str,
        wanted: Option<&Told>,
        from: Instant,
    ) -> Result<Told, String> {
        let (operation, calls, fetches) = *self.before.lock().unwrap();
        let told = self.until(when, |last, _| {
            let is_met = self.fetches() >= fetches + FETCHES && Instant::now() >= from;
            let told = match (last, self.calls(operation) == calls) {
                (Told::Answered, true) => &Told::NotAsked,
                (last, _) => last,
            };
            is_met && wanted.is_none_or(|wanted| wanted == told)
        });
        let told = told.await.map_err(|why| match wanted {
            Some(wanted) => format!("{why}; wanted {wanted}"),
            None => why,
        })?;
        match self.calls(operation) == calls {
            true if told == Told::Answered => Ok(Told::NotAsked),
            _ => Ok(told),
        }
    }

    /// Asks until it is so; every answer has to be right or honest.
    async fn until(
        &self,
        when: &str,
        is_so: impl Fn(&Told, &Self) -> bool,
    ) -> Result<Told, String> {
        let mut client = self.client.clone();
        let mut last = String::from("nothing");
        let asked = async {
            loop {
                let answer = value(&mut client, &self.object).await;
                let told = self.judged(&answer)?;
                if is_so(&told, self) {
                    return Ok(told);
                }
                last = told.to_string();
                sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(told) => told.map_err(|why: String| format!("{when}: {why}")),
            Err(_) => Err(format!("{when}: in vain; the last answer was {last}")),
        }
    }

    fn judged(&self, answer: &Result<f64, Status>) -> Result<Told, String> {
        let truth = self.mode.truth().value;
        match answer {
            Ok(value) if *value == truth => Ok(Told::Answered),
            Ok(value) => Err(format!("the value {value} is made up; {truth} is right")),
            Err(status) => Told::of_error(status),
        }
    }

    /// Opens a push stream.
    pub(super) async fn follow(&self) -> Result<Pushed, String> {
        let mut client = self.client.clone();
        let opened = client.stream_is_active(self.object.clone()).await;
        let opened = opened.map_err(|status| status.to_string())?;
        Ok(Pushed {
            states: opened.into_inner(),
            truth: self.mode.truth().active,
            told: false,
        })
    }
}

/// What is pushed meanwhile.
pub(super) struct Pushed {
    states: Streaming<IsActiveResponse>,
    truth: bool,
    told: bool,
}

impl Pushed {
    /// Nothing has come, and the stream is open.
    pub(super) fn is_silent(&mut self) -> Result<(), String> {
        match self.states.message().now_or_never() {
            None => Ok(()),
            Some(came) => Err(format!("pushed without an answer: {came:?}")),
        }
    }

    /// What has come is right, and the stream is open.
    pub(super) fn is_right(&mut self) -> Result<(), String> {
        while let Some(came) = self.states.message().now_or_never() {
            self.judge(came)?;
        }
        Ok(())
    }

    /// Waits for the first state.
    pub(super) async fn next(&mut self) -> Result<(), String> {
        if !self.told {
            let came = timeout(PATIENCE, self.states.message()).await;
            let came = came.map_err(|_| "waited in vain for a push".to_owned())?;
            self.judge(came)?;
        }
        Ok(())
    }

    fn judge(&mut self, came: Result<Option<IsActiveResponse>, Status>) -> Result<(), String> {
        match came {
            Ok(Some(state)) if state.result == self.truth => {
                self.told = true;
                Ok(())
            }
            other => Err(format!("pushed {other:?}; {} is right", self.truth)),
        }
    }
}

/// A lease for each shard.
async fn leases(dynamodb: &DynamoDb, table: &str, held: bool) {
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    dynamodb.create_table(table, &[key]).await;
    for shard in 0..SHARDS {
        let put = dynamodb.client.put_item().table_name(table);
        let mut put = put
            .item("leaseKey", AttributeValue::S(lease_key(shard)))
            .item("checkpoint", AttributeValue::S("TRIM_HORIZON".to_owned()))
            .item(
                "checkpointSubSequenceNumber",
                AttributeValue::N("0".to_owned()),
            )
            .item("leaseCounter", AttributeValue::N("1".to_owned()))
            .item(
                "ownerSwitchesSinceCheckpoint",
                AttributeValue::N("0".to_owned()),
            );
        if held && shard == 0 {
            put = put.item("leaseOwner", AttributeValue::S("pod".to_owned()));
        }
        put.send().await.unwrap();
    }
}

/// Renews the lease as a worker does.
async fn beat(client: aws_sdk_dynamodb::Client, table: String) {
    loop {
        let renew = client.update_item().table_name(&table);
        let renew = renew
            .key("leaseKey", AttributeValue::S(lease_key(0)))
            .update_expression("ADD leaseCounter :one")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
        let _ = renew.send().await;
        sleep(Duration::from_millis(500)).await;
    }
}

fn lease_key(shard: i32) -> String {
    format!("shardId-{shard:012}")
}
