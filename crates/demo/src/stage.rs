//! What the story plays on: Kinesis and DynamoDB, embedded, each behind its real API on loopback;
//! the stream, the table, and the scaler as a process of its own.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use embedded_kinesis::EmbeddedKinesis;
use keda_kinesis_scaler::config::Config;
use tokio::{net::TcpListener, sync::oneshot};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    process::{self, Output, Process},
    times::Times,
};

/// The tutorial's names.
pub const STREAM: &str = "kinesis-keda-demo";
/// Key: `email`, a string.
pub const TABLE: &str = "users";
/// The consumers' application, so also their lease table.
pub const APPLICATION: &str = "kinesis-keda-demo-consumer";
/// Any will do.
pub const REGION: &str = "eu-west-1";
/// The embedded services take every key; the SDKs want one.
pub const KEY: &str = "demo";
/// The scaler's configuration, among what is written.
const CONFIG: &str = "scaler.yaml";

/// Everything but the story itself.
#[derive(Debug)]
pub struct Stage {
    /// Where logs and the picture go.
    pub out: PathBuf,
    /// The embedded Kinesis, as an AWS client sees it.
    pub kinesis: aws_sdk_kinesis::Client,
    /// Its URL.
    pub kinesis_endpoint: String,
    /// The embedded DynamoDB, as an AWS client sees it.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Its URL.
    pub dynamodb_endpoint: String,
    /// The scaler's gRPC address.
    pub scaler: SocketAddr,
    /// The scaler's admin address.
    pub admin: SocketAddr,
    /// The scaler's decisions, a line of JSON each.
    pub decisions: Option<Output>,
    scaler_process: Process,
    _embedded: EmbeddedKinesis,
    _stop_dynamodb: oneshot::Sender<()>,
}

impl Stage {
    /// Starts everything, makes the stream with so many shards, and the table.
    pub async fn set(out: &Path, times: &Times, shards: u32) -> Result<Self> {
        clear_logs(&out.join("logs")).with_context(|| format!("cannot make {}", out.display()))?;
        let embedded = EmbeddedKinesis::start(embedded_kinesis::Config {
            region: REGION.into(),
            ..Default::default()
        })
        .await
        .context("the embedded Kinesis does not start")?;
        let kinesis_endpoint = embedded.endpoint().to_string();

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let dynamodb_endpoint = format!("http://{}", listener.local_addr()?);
        let (stop_dynamodb, stopped) = oneshot::channel();
        let database = dynoxide::Database::memory()
            .map_err(|error| anyhow::anyhow!("the embedded DynamoDB does not start: {error}"))?;
        tokio::spawn(dynoxide::server::serve_with_shutdown(
            listener,
            database,
            async {
                let _ = stopped.await;
            },
        ));

        let kinesis = aws_sdk_kinesis::Client::from_conf(
            aws_sdk_kinesis::Config::builder()
                .behavior_version_latest()
                .region(aws_sdk_kinesis::config::Region::new(REGION))
                .credentials_provider(Credentials::new(KEY, KEY, None, None, "demo"))
                .endpoint_url(&kinesis_endpoint)
                .build(),
        );
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(
            aws_sdk_dynamodb::Config::builder()
                .behavior_version_latest()
                .region(aws_sdk_dynamodb::config::Region::new(REGION))
                .credentials_provider(Credentials::new(KEY, KEY, None, None, "demo"))
                .endpoint_url(&dynamodb_endpoint)
                .build(),
        );
        create_stream(&kinesis, shards)
            .await
            .context("cannot create the stream")?;
        create_table(&dynamodb)
            .await
            .context("cannot create the table")?;

        let (scaler_process, scaler, admin, decisions) = start_scaler(out, times).await?;
        Ok(Self {
            out: out.to_owned(),
            kinesis,
            kinesis_endpoint,
            dynamodb,
            dynamodb_endpoint,
            scaler,
            admin,
            decisions: Some(decisions),
            scaler_process,
            _embedded: embedded,
            _stop_dynamodb: stop_dynamodb,
        })
    }

    /// The same for `scaleOn: lag`: as many pods as keep each record younger than `threshold`, down
    /// to one shard a pod.
    pub fn lag_metadata(&self, threshold: Duration) -> HashMap<String, String> {
        let mut metadata = self.trigger_metadata(1);
        let of_lag = [
            ("scaleOn", "lag".to_owned()),
            ("applicationName", APPLICATION.to_owned()),
            ("leaseTableEndpoint", self.dynamodb_endpoint.clone()),
            ("lagThreshold", format!("{}s", threshold.as_secs())),
        ];
        metadata.extend(of_lag.map(|(key, value)| (key.to_owned(), value)));
        metadata
    }

    /// The trigger metadata of the story's ScaledObject, as KEDA hands it to the scaler.
    pub fn trigger_metadata(&self, shard_count: u32) -> HashMap<String, String> {
        [
            ("scalerAddress", self.scaler.to_string()),
            ("streamName", STREAM.to_owned()),
            ("awsRegion", REGION.to_owned()),
            ("awsEndpoint", self.kinesis_endpoint.clone()),
            ("shardCount", shard_count.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The scaler's configuration file.
    pub fn config(&self) -> PathBuf {
        self.out.join(CONFIG)
    }

    /// Stops the scaler; the rest goes with this process.
    pub async fn strike(mut self, times: &Times) -> Result<()> {
        self.scaler_process.stop(times.grace).await
    }
}

/// An empty place for logs: pods of earlier runs have other names, so nothing else would write over
/// theirs.
fn clear_logs(logs: &Path) -> std::io::Result<()> {
    fs::create_dir_all(logs)?;
    for entry in fs::read_dir(logs)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("consumer-") && name.ends_with(".log") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The environment that makes an AWS SDK use the demo's key and nothing of this machine.
pub fn aws_environment() -> Vec<(&'static str, String)> {
    [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", KEY),
        ("AWS_REGION", REGION),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into()
}

async fn create_stream(kinesis: &aws_sdk_kinesis::Client, shards: u32) -> Result<()> {
    kinesis
        .create_stream()
        .stream_name(STREAM)
        .shard_count(i32::try_from(shards)?)
        .send()
        .await?;
    let created = async {
        loop {
            let stream = kinesis
                .describe_stream_summary()
                .stream_name(STREAM)
                .send()
                .await?;
            let status = stream
                .stream_description_summary()
                .map(|summary| summary.stream_status().clone());
            if status == Some(aws_sdk_kinesis::types::StreamStatus::Active) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), created)
        .await
        .context("it does not become ACTIVE")?
}

async fn create_table(dynamodb: &aws_sdk_dynamodb::Client) -> Result<()> {
    let key = AttributeDefinition::builder()
        .attribute_name("email")
        .attribute_type(ScalarAttributeType::S)
        .build()?;
    let schema = KeySchemaElement::builder()
        .attribute_name("email")
        .key_type(KeyType::Hash)
        .build()?;
    dynamodb
        .create_table()
        .table_name(TABLE)
        .attribute_definitions(key)
        .key_schema(schema)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await?;
    Ok(())
}

async fn start_scaler(
    out: &Path,
    times: &Times,
) -> Result<(Process, SocketAddr, SocketAddr, Output)> {
    // The policy is what lets a trigger name an endpoint of its own: without it the scaler refuses
    // `awsEndpoint`.
    let config = out.join(CONFIG);
    fs::write(
        &config,
        format!(
            "aws:\n  refresh: {}ms\n  callsPerSecond: 20\npolicy:\n  - namespaces: [\"default\"]\n    endpoints: [\"http://127.0.0.1:*\"]\n",
            times.refresh.as_millis()
        ),
    )?;
    let (process, mut output) = Process::start(
        "the scaler",
        &["scaler"],
        &[
            aws_environment(),
            vec![("DEMO_CONFIG", config.display().to_string())],
        ]
        .concat(),
        &out.join("logs/scaler.log"),
    )?;
    let failed = || {
        format!(
            "the scaler does not start: see {}",
            out.join("logs/scaler.log").display()
        )
    };
    let line = output.next_line().await?.with_context(failed)?;
    let (grpc, admin) = line.split_once(' ').with_context(failed)?;
    Ok((
        process,
        grpc.parse().with_context(failed)?,
        admin.parse().with_context(failed)?,
        output,
    ))
}

/// In the scaler's process: serves on free ports until told to stop. Says on standard output which,
/// and then what it decides on lag.
#[expect(clippy::print_stdout, reason = "its addresses, for the demo")]
pub async fn scaler_main() -> Result<()> {
    let log = fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let decided =
        Targets::new().with_target("keda_kinesis_scaler::watch::decider", LevelFilter::INFO);
    let decisions = fmt::layer().json().flatten_event(true);
    tracing_subscriber::registry()
        .with(log.with_filter(LevelFilter::INFO))
        .with(decisions.with_filter(decided))
        .init();
    let config = std::env::var("DEMO_CONFIG").context("this part is for the demo itself")?;
    let config = Config::load(&config)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let admin = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", listener.local_addr()?, admin.local_addr()?);
    let stop = process::told_to_stop()?;
    keda_kinesis_scaler::server::serve(config, listener, admin, stop).await
}
