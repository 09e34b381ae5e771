//! Streams, applications, and the ScaledObjects about them, each with what is true of it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType};
use embedded_kinesis::EmbeddedKinesis;
use keda_kinesis_scaler::proto::ScaledObjectRef;

use crate::support::*;

const STREAMS: usize = 20;
const APPLICATIONS: usize = 6;

/// Of each stream that an application reads.
const SHARDS: usize = 2;

pub(super) struct World {
    pub(super) kinesis: EmbeddedKinesis,
    pub(super) dynamodb: DynamoDb,
    pub(super) objects: Vec<Object>,
}

/// A ScaledObject, and what KEDA should be told of it.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) object: ScaledObjectRef,
    pub(super) value: f64,
    pub(super) active: bool,
}

impl World {
    pub(super) async fn start(objects: usize) -> Self {
        let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
        let kinesis = kinesis.await.unwrap();
        let dynamodb = DynamoDb::start().await;
        let client = aws(&kinesis);
        for stream in 0..STREAMS {
            create_stream(&client, &format!("orders-{stream}"), shards(stream) as i32).await;
        }
        for application in 0..APPLICATIONS {
            create_stream(&client, &format!("read-{application}"), SHARDS as i32).await;
            leases(&dynamodb, &format!("billing-{application}")).await;
        }
        let endpoints = (kinesis.endpoint(), dynamodb.endpoint());
        let objects = (0..objects).map(|number| object(number, &endpoints));
        Self {
            objects: objects.collect(),
            kinesis,
            dynamodb,
        }
    }

    pub(super) fn heal(&self) {
        self.kinesis.faults().clear();
        self.dynamodb.faults().clear();
    }
}

fn shards(stream: usize) -> usize {
    1 + stream % 3
}

/// Most are about open shards; some about the applications, which have read everything.
fn object(number: usize, (kinesis, dynamodb): &(String, String)) -> Object {
    let (stream, application) = (number % STREAMS, number % APPLICATIONS);
    let mut keys = HashMap::from([
        ("awsRegion".to_owned(), REGION.to_owned()),
        ("awsEndpoint".to_owned(), kinesis.clone()),
    ]);
    let mut set = |key: &str, value: String| drop(keys.insert(key.to_owned(), value));
    let value = match number % 5 {
        0 | 1 => {
            let lag = number.is_multiple_of(5);
            set("streamName", format!("read-{application}"));
            set("applicationName", format!("billing-{application}"));
            set("leaseTableEndpoint", dynamodb.clone());
            set(
                "scaleOn",
                if lag { "lag" } else { "readableShards" }.to_owned(),
            );
            // One replica of the default shardCount, 2, and not active.
            if lag { 2 } else { SHARDS }
        }
        _ => {
            set("streamName", format!("orders-{stream}"));
            shards(stream)
        }
    };
    Object {
        object: ScaledObjectRef {
            name: format!("object-{number}"),
            namespace: format!("team-{}", number % 7),
            scaler_metadata: keys,
        },
        value: value as f64,
        active: !number.is_multiple_of(5),
    }
}

/// Leases that nobody holds.
async fn leases(dynamodb: &DynamoDb, table: &str) {
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    dynamodb.create_table(table, &[key]).await;
    for shard in 0..SHARDS {
        let (text, number) = (AttributeValue::S, AttributeValue::N);
        let put = dynamodb.client.put_item().table_name(table);
        let put = put
            .item("leaseKey", text(format!("shardId-{shard:012}")))
            .item("checkpoint", text("TRIM_HORIZON".to_owned()))
            .item("checkpointSubSequenceNumber", number("0".to_owned()))
            .item("leaseCounter", number("1".to_owned()))
            .item("ownerSwitchesSinceCheckpoint", number("0".to_owned()));
        put.send().await.unwrap();
    }
}
