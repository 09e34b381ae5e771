//! The table itself: created when absent, checked when there.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableDescription, TableStatus,
    },
};
use tokio::time::Instant;

use super::failure::classify;
use crate::edge::lease_table::TableError;

const POLL: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(600);

/// Creates the table if it is not there, and waits until it can be used. `true`: it was created by us.
pub(super) async fn ensure_exists(client: &Client, table: &str) -> Result<bool, TableError> {
    let started = Instant::now();
    let mut told = started;
    let mut created = false;
    loop {
        let status = match client.describe_table().table_name(table).send().await {
            Ok(answer) => answer
                .table()
                .map(|description| checked(table, description))
                .transpose()?,
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                // Also when a table of that name is gone only now, after its deletion.
                created |= create(client, table).await?;
                None
            }
            Err(error) => return Err(classify("DescribeTable", table, &error)),
        };
        if matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
            return Ok(created);
        }
        let status = status.as_ref().map_or("CREATING", TableStatus::as_str);
        if started.elapsed() >= PATIENCE {
            return Err(TableError::Unavailable(format!(
                "table {table} is still {status} after {PATIENCE:?}"
            )));
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            tracing::info!(table, status, waited = ?started.elapsed(), "waiting for the lease table");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The table's status, if it is keyed as a lease table.
fn checked(table: &str, description: &TableDescription) -> Result<TableStatus, TableError> {
    let keys: Vec<_> = description
        .key_schema()
        .iter()
        .map(|key| (key.attribute_name(), key.key_type()))
        .collect();
    if keys != [("leaseKey", &KeyType::Hash)] {
        let keys: Vec<_> = keys
            .iter()
            .map(|(name, kind)| format!("{name} ({kind})"))
            .collect();
        return Err(TableError::Permanent(format!(
            "table {table} has key {}: want leaseKey (HASH) and no sort key. \
             Is it another kind of table? Give the application another lease table",
            keys.join(", ")
        )));
    }
    Ok(description
        .table_status()
        .cloned()
        .unwrap_or(TableStatus::Active))
}

async fn create(client: &Client, table: &str) -> Result<bool, TableError> {
    let key = KeySchemaElement::builder()
        .attribute_name("leaseKey")
        .key_type(KeyType::Hash)
        .build();
    let attribute = AttributeDefinition::builder()
        .attribute_name("leaseKey")
        .attribute_type(ScalarAttributeType::S)
        .build();
    let (Ok(key), Ok(attribute)) = (key, attribute) else {
        return Err(TableError::Permanent(
            "the lease table's key is incomplete".to_owned(),
        ));
    };
    let request = client
        .create_table()
        .table_name(table)
        .key_schema(key)
        .attribute_definitions(attribute);
    match request
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
    {
        Ok(_) => Ok(true),
        // Another worker was faster.
        Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
        Err(error) => Err(classify("CreateTable", table, &error)),
    }
}
