//! A real scaler before an embedded Kinesis, both on loopback ports, with short intervals; and a
//! client that asks as KEDA does.

pub mod honest;
pub mod keda;
mod process;
pub mod world;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use embedded_kinesis::EmbeddedKinesis;
use keda_kinesis_scaler::{
    config::Config,
    proto::{
        GetMetricsRequest, GetMetricsResponse, ScaledObjectRef,
        external_scaler_client::ExternalScalerClient,
    },
    server::{self, Tuning},
    watch::Pace,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

pub use self::process::Process;
pub use test_support::{
    DynamoDb, PATIENCE, Scripted, Signal,
    aws::{ACCESS_KEY, REGION, credentials},
    eventually,
    http::get as http_get,
};

pub type Client = ExternalScalerClient<Channel>;

/// A scaler in this process and its Kinesis.
#[derive(Debug)]
pub struct Stack {
    pub kinesis: EmbeddedKinesis,
    pub aws: aws_sdk_kinesis::Client,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<anyhow::Result<()>>,
}

/// Refreshes every 50 ms, lets the last good answer stand for long, and allows loopback endpoints.
pub fn config() -> Config {
    let yaml = "
        aws: {refresh: 50ms, maxStale: 1h, timeout: 2s, callsPerSecond: 1000}
        policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*'], roles: ['*']}]
    ";
    Config::parse(yaml, "test").unwrap()
}

/// For tests that count calls: a first answer, no second look, no refresh, and nothing that is
/// given up and asked for again because the machine is busy.
pub fn never_again(config: &mut Config, tuning: &mut Tuning) {
    (config.aws.refresh, config.aws.timeout) = (Duration::from_secs(3600), PATIENCE);
    tuning.pace = Some(Pace {
        second_look: config.aws.refresh,
        first_answer: PATIENCE,
        ..Pace::from(&config.aws)
    });
}

impl Stack {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// As [`start`](Self::start), with changes to what the scaler is started with.
    pub async fn with(change: impl FnOnce(&mut Config, &mut Tuning)) -> Self {
        let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
        let kinesis = kinesis.await.unwrap();
        let mut config = config();
        let mut tuning = Tuning {
            credentials: Some(credentials(ACCESS_KEY)),
            ..Tuning::default()
        };
        change(&mut config, &mut tuning);
        let (listener, admin) = (listen().await, listen().await);
        let address = listener.local_addr().unwrap();
        let admin_address = admin.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().cancelled_owned();
        let server = tokio::spawn(server::serve_tuned(config, tuning, listener, admin, stop));
        Self {
            aws: aws(&kinesis),
            kinesis,
            address,
            admin: admin_address,
            shutdown,
            server,
        }
    }

    pub async fn create_stream(&self, name: &str, shards: i32) {
        create_stream(&self.aws, name, shards).await;
    }

    pub async fn update_shard_count(&self, name: &str, shards: i32) {
        let update = self.aws.update_shard_count().stream_name(name);
        let update = update.target_shard_count(shards);
        let update = update.scaling_type(aws_sdk_kinesis::types::ScalingType::UniformScaling);
        update.send().await.unwrap();
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        client(self.address).await
    }

    /// Metadata of a stream in the embedded Kinesis, and more keys.
    pub fn stream(&self, name: &str, more: &[(&str, &str)]) -> HashMap<String, String> {
        let endpoint = self.kinesis.endpoint();
        let mut all = metadata(&[
            ("streamName", name),
            ("awsRegion", REGION),
            ("awsEndpoint", &endpoint),
        ]);
        all.extend(metadata(more));
        all
    }

    /// A trigger about the application `billing` on a stream of a scripted AWS.
    pub fn scripted(&self, aws: &Scripted, stream: &str, more: &[(&str, &str)]) -> ScaledObjectRef {
        let mut all = self.stream(
            stream,
            &[
                ("awsEndpoint", &aws.endpoint),
                ("leaseTableEndpoint", &aws.endpoint),
                ("applicationName", "billing"),
                ("shardCount", "1"),
            ],
        );
        all.extend(metadata(more));
        object(all)
    }

    /// As [`stream`](Self::stream), as KEDA sends it.
    pub fn object(&self, name: &str, more: &[(&str, &str)]) -> ScaledObjectRef {
        object(self.stream(name, more))
    }

    /// Shuts the scaler down and waits until it ended.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap().unwrap();
    }
}

/// A Kinesis client for the test's own needs.
pub fn aws(kinesis: &EmbeddedKinesis) -> aws_sdk_kinesis::Client {
    test_support::aws::kinesis(&kinesis.endpoint())
}

pub async fn create_stream(aws: &aws_sdk_kinesis::Client, name: &str, shards: i32) {
    let create = aws.create_stream().stream_name(name).shard_count(shards);
    create.send().await.unwrap();
}

pub async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Connects, as soon as somebody listens.
pub async fn client(address: SocketAddr) -> Client {
    ExternalScalerClient::new(channel(address).await)
}

pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let connected = async {
        loop {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    eventually("a connection", connected).await
}

pub fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    owned.collect()
}

pub fn object(metadata: HashMap<String, String>) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "scaled-object".to_owned(),
        namespace: "team-a".to_owned(),
        scaler_metadata: metadata,
    }
}

/// The name and value that GetMetrics gives under the name of GetMetricSpec.
pub async fn metrics(
    client: &mut Client,
    object: &ScaledObjectRef,
) -> Result<GetMetricsResponse, Status> {
    let spec = client.get_metric_spec(object.clone()).await?.into_inner();
    let request = GetMetricsRequest {
        scaled_object_ref: Some(object.clone()),
        metric_name: spec.metric_specs[0].metric_name.clone(),
    };
    Ok(client.get_metrics(request).await?.into_inner())
}

pub async fn value(client: &mut Client, object: &ScaledObjectRef) -> Result<f64, Status> {
    let answer = metrics(client, object).await?;
    assert_eq!(answer.metric_values.len(), 1, "exactly one value");
    Ok(answer.metric_values[0].metric_value_float)
}

/// Asks until the value is `wanted`; errors and other values pass by.
pub async fn wait_for_value(client: &mut Client, object: &ScaledObjectRef, wanted: f64) {
    let mut last = None;
    let asked = async {
        loop {
            match value(client, object).await {
                Ok(value) if value == wanted => return,
                other => last = Some(other),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, asked).await.is_err() {
        panic!("waited in vain for the value {wanted}; the last answer was {last:?}");
    }
}

/// Whether KEDA is told to scale from zero, once it is told anything.
pub async fn answered_activity(client: &mut Client, object: &ScaledObjectRef) -> bool {
    let asked = async {
        loop {
            if let Ok(answer) = client.is_active(object.clone()).await {
                return answer.into_inner().result;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("an answer", asked).await
}

/// Asks until the answer is an error with this code; values and other errors pass by.
pub async fn wait_for_code(client: &mut Client, object: &ScaledObjectRef, code: Code) -> Status {
    let mut last = None;
    let asked = async {
        loop {
            match value(client, object).await {
                Err(status) if status.code() == code => return status,
                other => last = Some(other),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(status) => status,
        Err(_) => panic!("waited in vain for {code:?}; the last answer was {last:?}"),
    }
}

/// Scrapes until the metrics are as wanted.
pub async fn scraped(admin: SocketAddr, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let scraping = async {
        loop {
            last = http_get(admin, "/metrics").await.1;
            if wanted(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, scraping).await.is_err() {
        panic!("waited in vain for {what} in\n{last}");
    }
    last
}

/// The shards of an application as `/explain` has them, in short: `0 finished, 1 unread, 2 waits`.
pub fn shard_states(application: &serde_json::Value) -> String {
    let shards = application["shards"].as_array().unwrap().iter();
    let mut states: Vec<_> = shards
        .map(|shard| {
            let id = shard["id"].as_str().unwrap();
            let number: u32 = id.trim_start_matches("shardId-").parse().unwrap();
            (number, shard["state"].as_str().unwrap())
        })
        .collect();
    states.sort_unstable();
    let states = states
        .iter()
        .map(|(number, state)| format!("{number} {state}"));
    states.collect::<Vec<_>>().join(", ")
}
