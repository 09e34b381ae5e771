//! Embedded Kinesis and DynamoDB, and what a process needs to find them.

use anyhow::Result;
use dynoxide::Database;
use embedded_kinesis::{Config, EmbeddedKinesis};
use test_support::aws;
use tokio::{net::TcpListener, task::JoinHandle};

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
        Ok(Self {
            kinesis: aws::kinesis(&server.endpoint()),
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
            ("AWS_REGION", aws::REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
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
