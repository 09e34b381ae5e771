//! DynamoDB, embedded, behind its wire protocol and a [`Proxy`].

use std::{collections::HashMap, ops::Deref};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        ScalarAttributeType,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Proxy, aws};

/// An item as the SDK has it.
pub type Item = HashMap<String, AttributeValue>;

/// A DynamoDB with nothing in it. Its faults and counts are those of its [`Proxy`]. It stops when
/// dropped.
#[derive(Debug)]
pub struct DynamoDb {
    proxy: Proxy,
    /// Of the tests' own identity; what it calls is counted, and meets faults, too.
    pub client: Client,
    _stop: DropGuard,
}

impl Deref for DynamoDb {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

impl DynamoDb {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let database = dynoxide::Database::memory().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(dynoxide::server::serve_with_shutdown(
            listener, database, stopped,
        ));
        let proxy = Proxy::start(&upstream).await;
        Self {
            client: aws::dynamodb(&proxy.endpoint()),
            proxy,
            _stop: stop.drop_guard(),
        }
    }

    /// Makes a table, billed by request.
    pub async fn create_table(&self, name: &str, keys: &[(&str, KeyType, ScalarAttributeType)]) {
        let create = self.client.create_table().table_name(name);
        let mut create = create.billing_mode(BillingMode::PayPerRequest);
        for (name, kind, scalar) in keys {
            let key = KeySchemaElement::builder()
                .attribute_name(*name)
                .key_type(kind.clone());
            let definition = AttributeDefinition::builder()
                .attribute_name(*name)
                .attribute_type(scalar.clone());
            create = create
                .key_schema(key.build().unwrap())
                .attribute_definitions(definition.build().unwrap());
        }
        create.send().await.unwrap();
    }

    /// All items of a table.
    pub async fn items(&self, table: &str) -> Vec<Item> {
        let scan = self.client.scan().table_name(table).consistent_read(true);
        let items = scan.into_paginator().items().send();
        items.collect::<Result<_, _>>().await.unwrap()
    }
}

/// An attribute's text: of a string or a number.
pub fn text(item: &Item, name: &str) -> String {
    match item.get(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    }
}
