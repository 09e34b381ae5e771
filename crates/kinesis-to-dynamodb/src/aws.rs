//! AWS: the clients of one consumer.

use std::time::Duration;

use kinesis_consumer::Config;
use kinesis_edge::{
    ClientSettings, Connection, ConnectionSettings, DynamoDbClient, KinesisClient, Stream, Table,
};

use crate::{Error, Settings};

/// The SDK has no time limits of its own but for connecting, and would wait for a silent peer for
/// ever.
const CALLS: ClientSettings = ClientSettings {
    connect_timeout: Some(Duration::from_secs(3)),
    read_timeout: None,
    // As long as a page of 10 MiB may take on a slow line.
    attempt_timeout: Some(Duration::from_secs(30)),
    operation_timeout: None,
    attempts: None,
};

/// Items are written once: the writer waits throttling out itself, and counts it.
const ITEMS: ClientSettings = ClientSettings {
    attempts: Some(1),
    ..CALLS
};

/// The clients of one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    connection: Connection,
    kinesis: KinesisClient,
    dynamodb: DynamoDbClient,
    /// Where they ask.
    pub(crate) region: String,
}

impl Clients {
    pub(crate) async fn new(settings: &Settings) -> Result<Self, Error> {
        let connection = Connection::open(ConnectionSettings {
            region: settings.aws_region().map(str::to_owned),
            client: CALLS,
            ..ConnectionSettings::default()
        })
        .await;
        let Some(region) = connection.region().map(str::to_owned) else {
            return Err(Error::Setting {
                name: "AWS_REGION",
                value: String::new(),
                want: "a region, such as eu-west-1",
            });
        };
        let mut streams = settings.stream().into_iter().chain(settings.entries());
        let other = streams.find(|stream| region_of_arn(stream).is_some_and(|it| it != region));
        if let Some(other) = other {
            tracing::debug!(other, "the stream's ARN is of another region");
            return Err(Error::Setting {
                name: "AWS_REGION",
                value: region,
                want: "the region of the ARN in STREAM_NAME, or of all in STREAMS",
            });
        }
        Ok(Self {
            kinesis: connection.kinesis(None),
            dynamodb: connection.dynamodb(None),
            connection,
            region,
        })
    }

    /// The library's, with connections of their own.
    pub(crate) fn of_worker(&self, config: &Config) -> (KinesisClient, DynamoDbClient) {
        let kinesis = self.connection.bounded(config.kinesis_connections());
        let dynamodb = self.connection.bounded(config.dynamodb_connections());
        (kinesis.kinesis(None), dynamodb.dynamodb(None))
    }

    /// The stream of that name or ARN.
    pub(crate) fn stream(&self, stream: &str) -> Stream {
        Stream::new(self.kinesis.clone(), stream)
    }

    /// A table, for questions.
    pub(crate) fn table(&self, name: &str) -> Table {
        Table::new(self.dynamodb.clone(), name)
    }

    /// A table, for items.
    pub(crate) fn items(&self, name: &str) -> Table {
        Table::new(ITEMS.complete_dynamodb(&self.dynamodb), name)
    }
}

fn region_of_arn(stream: &str) -> Option<&str> {
    stream.strip_prefix("arn:")?.split(':').nth(2)
}
