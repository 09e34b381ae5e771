//! A stream and tables on this machine, and consumers in processes of their own.

mod consumer;

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use embedded_kinesis::{Config, EmbeddedKinesis};
use test_support::aws::REGION;

pub use consumer::{Consumer, Setup, binary};
pub use test_support::{DynamoDb, Item, text, until};

/// The stream of most tests.
pub const STREAM: &str = "orders";
/// The table of most tests.
pub const TABLE: &str = "users";
/// The application of most tests, and its lease table.
pub const APPLICATION: &str = "demo-app";

/// The embedded services and clients for them.
pub struct World {
    pub embedded: EmbeddedKinesis,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: DynamoDb,
}

impl World {
    /// Services with nothing in them.
    pub async fn empty() -> Self {
        Self::with(Config::default()).await
    }

    /// The same, with a Kinesis of these settings.
    pub async fn with(config: Config) -> Self {
        let embedded = EmbeddedKinesis::start(config).await.unwrap();
        Self {
            kinesis: test_support::aws::kinesis(&embedded.endpoint()),
            embedded,
            dynamodb: DynamoDb::start().await,
        }
    }

    /// The tutorial's stream and table.
    pub async fn tutorial(shards: i32) -> Self {
        Self::tutorial_with(shards, Config::default()).await
    }

    /// The same, with a Kinesis of these settings.
    pub async fn tutorial_with(shards: i32, config: Config) -> Self {
        let world = Self::with(config).await;
        world.stream(shards).await;
        world
            .table(TABLE, &[("email", KeyType::Hash, ScalarAttributeType::S)])
            .await;
        world
    }

    pub async fn stream(&self, shards: i32) {
        self.kinesis
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards)
            .send()
            .await
            .unwrap();
    }

    pub async fn table(&self, name: &str, keys: &[(&str, KeyType, ScalarAttributeType)]) {
        self.dynamodb.create_table(name, keys).await;
    }

    /// The table for rejects, as the README has it made.
    pub async fn rejects_table(&self, name: &str) {
        self.table(
            name,
            &[
                ("record", KeyType::Hash, ScalarAttributeType::S),
                ("part", KeyType::Range, ScalarAttributeType::N),
            ],
        )
        .await;
    }

    /// A consumer with the tutorial's environment.
    pub fn consumer(&self, instance: &str) -> Setup {
        Setup::new([
            ("STREAM_NAME", STREAM.to_owned()),
            ("TABLE_NAME", TABLE.to_owned()),
            ("APPLICATION_NAME", APPLICATION.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("INSTANCE_NAME", instance.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_ENDPOINT_URL_KINESIS", self.embedded.endpoint()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.endpoint()),
            ("FAILOVER_TIME", "1s".to_owned()),
            ("ADMIN", "127.0.0.1:0".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("LOG_LEVEL", "info,kinesis_to_dynamodb=debug".to_owned()),
        ])
    }

    /// Puts one record and returns its sequence number.
    pub async fn put(&self, key: &str, data: impl Into<Vec<u8>>) -> String {
        let answer = self
            .kinesis
            .put_record()
            .stream_name(STREAM)
            .partition_key(key)
            .data(Blob::new(data.into()));
        answer.send().await.unwrap().sequence_number
    }

    /// Puts records, in order, as one request; tries again what is refused.
    pub async fn put_all(&self, records: impl IntoIterator<Item = (String, String)>) {
        let mut left: Vec<PutRecordsRequestEntry> = records
            .into_iter()
            .map(|(key, data)| {
                PutRecordsRequestEntry::builder()
                    .partition_key(key)
                    .data(Blob::new(data))
                    .build()
                    .unwrap()
            })
            .collect();
        while !left.is_empty() {
            let answer = self
                .kinesis
                .put_records()
                .stream_name(STREAM)
                .set_records(Some(left.clone()))
                .send()
                .await
                .unwrap();
            let results = answer.records.into_iter();
            left = left
                .into_iter()
                .zip(results)
                .filter(|(_, result)| result.error_code.is_some())
                .map(|(entry, _)| entry)
                .collect();
        }
    }

    /// All items of a table.
    pub async fn items(&self, table: &str) -> Vec<Item> {
        self.dynamodb.items(table).await
    }

    /// The item of a key of the tutorial's table.
    pub async fn user(&self, email: &str) -> Option<Item> {
        let request = self.dynamodb.client.get_item().table_name(TABLE);
        request
            .consistent_read(true)
            .key("email", AttributeValue::S(email.to_owned()))
            .send()
            .await
            .unwrap()
            .item
    }

    /// Waits for the item of a key, and that `wanted` holds of it.
    pub async fn user_when(&self, email: &str, wanted: impl Fn(&Item) -> bool) -> Item {
        until(email, async || self.user(email).await.filter(&wanted)).await
    }
}
