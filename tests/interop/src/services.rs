//! Embedded Kinesis and DynamoDB, and what a process needs to find them.

use anyhow::Result;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use dynoxide::Database;
use embedded_kinesis::{Config, EmbeddedKinesis};
use tokio::{net::TcpListener, task::JoinHandle};

/// The credentials that every process uses; the emulators take any.
const KEY: (&str, &str) = ("AKIAINTEROP", "interop");
const REGION: &str = "us-east-1";

/// The emulators of one scenario. They end with it.
#[derive(Debug)]
pub(crate) struct Services {
    server: EmbeddedKinesis,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb_endpoint: String,
    dynamodb: JoinHandle<()>,
}

impl Services {
    /// Starts them on free loopback ports.
    pub(crate) async fn start(database: Database) -> Result<Self> {
        let server = EmbeddedKinesis::start(Config::default()).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let dynamodb_endpoint = format!("http://{}", listener.local_addr()?);
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(KEY.0, KEY.1, None, None, "interop"))
            .endpoint_url(server.endpoint())
            .build();
        Ok(Self {
            kinesis: aws_sdk_kinesis::Client::from_conf(config),
            dynamodb_endpoint,
            dynamodb: tokio::spawn(dynoxide::server::serve_on(listener, database)),
            server,
        })
    }

    /// Where Kinesis listens.
    pub(crate) fn kinesis_endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// The environment of a process that uses them: nothing of this machine's AWS settings.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HOME", "/nonexistent".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.0.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEY.1.to_owned()),
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis_endpoint()),
            ("AWS_ENDPOINT_URL_STS", self.kinesis_endpoint()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb_endpoint.clone()),
        ]
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.dynamodb.abort();
    }
}
