//! The lease table of the tests, in an embedded DynamoDB.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, KeyType, ScalarAttributeType},
};
use embedded_kinesis::Faults;
use kinesis_consumer::test_util::{DynamoDbTable, LeaseTable};
use serde_json::Value;

pub(crate) const TABLE: &str = "leases";
pub(crate) const APPLICATION: &str = "app";

/// An item as it is stored.
pub(crate) type Item = BTreeMap<String, AttributeValue>;

/// Serves until it is dropped.
pub(crate) struct DynamoDb {
    pub(crate) client: Client,
    server: test_support::DynamoDb,
}

impl DynamoDb {
    pub(crate) async fn start() -> Self {
        let server = test_support::DynamoDb::start().await;
        let client = server.client.clone();
        Self { client, server }
    }

    /// With an empty lease table.
    pub(crate) async fn with_table() -> Self {
        let db = Self::start().await;
        assert!(db.table().ensure_exists().await.expect("created"));
        db
    }

    pub(crate) fn table(&self) -> DynamoDbTable {
        DynamoDbTable::new(self.client.clone(), TABLE, APPLICATION)
    }

    pub(crate) fn faults(&self) -> &Faults {
        self.server.faults()
    }

    pub(crate) async fn create_table(&self, name: &str, key: &str) {
        let keys = [(key, KeyType::Hash, ScalarAttributeType::S)];
        self.server.create_table(name, &keys).await;
    }

    pub(crate) async fn put(&self, table: &str, item: &Item) {
        let item: HashMap<_, _> = item.clone().into_iter().collect();
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .send()
            .await
            .expect("put");
    }

    pub(crate) async fn item(&self, key: &str) -> Item {
        let key = AttributeValue::S(key.to_owned());
        let answer = self
            .client
            .get_item()
            .table_name(TABLE)
            .key("leaseKey", key)
            .consistent_read(true)
            .send()
            .await;
        normal(answer.expect("an answer").item.expect("an item"))
    }

    pub(crate) async fn items(&self) -> Vec<Item> {
        let items = self.server.items(TABLE).await;
        items.into_iter().map(normal).collect()
    }
}

/// Sets have no order, and numbers more than one text.
fn normal(item: HashMap<String, AttributeValue>) -> Item {
    let sorted = |value| match value {
        AttributeValue::Ss(mut texts) => {
            texts.sort();
            AttributeValue::Ss(texts)
        }
        AttributeValue::N(digits) if digits.contains('E') => {
            AttributeValue::N(digits.parse::<f64>().expect("a number").to_string())
        }
        other => other,
    };
    item.into_iter()
        .map(|(name, value)| (name, sorted(value)))
        .collect()
}

/// DynamoDB's JSON.
pub(crate) fn from_json(item: &Value) -> Item {
    let attributes = item.as_object().expect("an object").iter();
    normal(
        attributes
            .map(|(name, value)| (name.clone(), attribute(value)))
            .collect(),
    )
}

fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value
        .as_object()
        .and_then(|object| object.iter().next())
        .expect("a typed value");
    let text = || value.as_str().expect("text").to_owned();
    let list = || value.as_array().expect("a list").iter();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "SS" => AttributeValue::Ss(
            list()
                .map(|text| text.as_str().expect("text").to_owned())
                .collect(),
        ),
        "L" => AttributeValue::L(list().map(attribute).collect()),
        "M" => AttributeValue::M(from_json(value).into_iter().collect()),
        "NULL" => AttributeValue::Null(true),
        other => panic!("type {other} in a fixture"),
    }
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(crate) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
