//! A stream and tables on this machine, and consumers in processes of their own.

mod consumer;
mod dynamodb;
pub mod policy;
pub mod queries;

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use embedded_kinesis::{Config, EmbeddedKinesis};

pub use consumer::Consumer;
pub use dynamodb::{DynamoDb, Fault};

/// The stream of most tests.
pub const STREAM: &str = "orders";
/// The table of most tests.
pub const TABLE: &str = "users";
/// The application of most tests, and its lease table.
pub const APPLICATION: &str = "demo-app";

const REGION: &str = "us-east-1";

/// An item as DynamoDB gives it.
pub type Item = HashMap<String, AttributeValue>;

/// The embedded services and clients for them.
pub struct World {
    pub embedded: EmbeddedKinesis,
    pub dynamodb_server: DynamoDb,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
}

impl World {
    /// Services with nothing in them.
    pub async fn empty() -> Self {
        let embedded = EmbeddedKinesis::start(Config::default()).await.unwrap();
        let dynamodb_server = DynamoDb::start().await;
        let config = |endpoint: String| async {
            aws_config::defaults(aws_config::BehaviorVersion::latest())
                .region(REGION)
                .credentials_provider(aws_credential_types::Credentials::for_tests())
                .endpoint_url(endpoint)
                .load()
                .await
        };
        Self {
            kinesis: aws_sdk_kinesis::Client::new(&config(embedded.endpoint().to_string()).await),
            dynamodb: aws_sdk_dynamodb::Client::new(&config(dynamodb_server.endpoint()).await),
            embedded,
            dynamodb_server,
        }
    }

    /// The tutorial's stream and table.
    pub async fn tutorial(shards: i32) -> Self {
        let world = Self::empty().await;
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
        let mut request = self
            .dynamodb
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind, scalar) in keys {
            let key = KeySchemaElement::builder()
                .attribute_name(*name)
                .key_type(kind.clone());
            let definition = AttributeDefinition::builder()
                .attribute_name(*name)
                .attribute_type(scalar.clone());
            request = request
                .key_schema(key.build().unwrap())
                .attribute_definitions(definition.build().unwrap());
        }
        request.send().await.unwrap();
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
    pub fn consumer(&self, instance: &str) -> Consumer {
        Consumer::new([
            ("STREAM_NAME", STREAM.to_owned()),
            ("TABLE_NAME", TABLE.to_owned()),
            ("APPLICATION_NAME", APPLICATION.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("INSTANCE_NAME", instance.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            (
                "AWS_ENDPOINT_URL_KINESIS",
                self.embedded.endpoint().to_string(),
            ),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb_server.endpoint()),
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
        self.dynamodb
            .scan()
            .table_name(table)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send()
            .collect::<Result<_, _>>()
            .await
            .unwrap()
    }

    /// The item of a key of the tutorial's table.
    pub async fn user(&self, email: &str) -> Option<Item> {
        let request = self
            .dynamodb
            .get_item()
            .table_name(TABLE)
            .consistent_read(true);
        request
            .key("email", AttributeValue::S(email.to_owned()))
            .send()
            .await
            .unwrap()
            .item
    }

    /// Waits for the item of a key, and that `wanted` holds of it.
    pub async fn user_when(&self, email: &str, wanted: impl Fn(&Item) -> bool) -> Item {
        eventually(email, async || self.user(email).await.filter(&wanted)).await
    }
}

/// Asks until there is an answer. The time limit only ends a test that would fail.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// An attribute's text: of a string or a number.
pub fn text(item: &Item, name: &str) -> String {
    match item.get(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    }
}
