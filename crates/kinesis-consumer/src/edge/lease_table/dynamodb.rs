//! The lease table in DynamoDB: KCL's conditional writes as expressions, one attribute at a time, so that attributes of a newer KCL
//! survive. Never PutItem over a lease.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    config::timeout::TimeoutConfig,
    operation::{
        delete_item::DeleteItemError,
        update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    },
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use jiff::Timestamp;

use crate::{
    edge::lease_table::{Kcl3State, LeaseTable, TableError, new_process},
    model::{
        lease::Lease,
        sequence::Checkpoint,
        shard::{HashRange, ShardId},
    },
};

mod creation;
mod failure;
pub mod item;
mod kcl3;

use failure::classify;
use item::{Item, Parsed, new_item, number, parse, string, strings};
use kcl3::SideTable;

/// What every call gets where the client handed in has no setting of its own: an answer that comes later than a renewal is due
/// helps nobody. Retries are the SDK's, as the client has them.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(5))
        .build()
}

/// The lease table of one application in DynamoDB.
#[derive(Debug)]
pub struct DynamoDbTable {
    client: Client,
    table: String,
    process: String,
    side_table: SideTable,
    /// Items told as skipped: each once.
    skipped: Mutex<HashSet<String>>,
}

impl DynamoDbTable {
    /// The lease table `table` of `application`. The client gets [`timeouts`] where it has none.
    pub fn new(client: Client, table: impl Into<String>, application: impl Into<String>) -> Self {
        let set = client
            .config()
            .timeout_config()
            .map(TimeoutConfig::to_builder)
            .unwrap_or_default();
        let timeouts = set.take_unset_from(timeouts().to_builder()).build();
        let config = client
            .config()
            .to_builder()
            .timeout_config(timeouts)
            .build();
        Self {
            client: Client::from_conf(config),
            table: table.into(),
            process: new_process(),
            side_table: SideTable::new(&application.into()),
            skipped: Mutex::default(),
        }
    }

    fn update(&self, key: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("leaseKey", string(key))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// An update on condition of the counter that also moves it.
    fn beat(&self, lease: &Lease) -> UpdateItemFluentBuilder {
        self.update(&lease.key)
            .expression_attribute_values(":counter", number(lease.counter))
            .expression_attribute_values(":next", number(lease.counter + 1))
    }

    /// A holder's write, with more to set and to remove.
    fn renewal(&self, lease: &Lease, set: &str, remove: &[&str]) -> UpdateItemFluentBuilder {
        let mut expression = format!("SET leaseCounter = :next, nativeCounter = :next{set}");
        let mut remove = remove.to_vec();
        let mut update = self.beat(lease);
        if let Some(permille) = lease.busy_permille {
            expression.push_str(", busy = :busy");
            let fraction = f64::from(permille) / 1000.0;
            update = update.expression_attribute_values(":busy", number(fraction));
        } else {
            remove.push("busy");
        }
        if !remove.is_empty() {
            expression.push_str(" REMOVE ");
            expression.push_str(&remove.join(", "));
        }
        update.update_expression(expression)
    }

    async fn send(&self, update: UpdateItemFluentBuilder) -> Result<Lease, TableError> {
        let answer = update
            .send()
            .await
            .map_err(|error| match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    TableError::Conflict(
                        failed
                            .item()
                            .and_then(|item| self.lease(item))
                            .map(Box::new),
                    )
                }
                _ => classify("UpdateItem", &self.table, &error),
            })?;
        let stored = answer.attributes().and_then(|item| self.lease(item));
        // The write happened, but no lease is left of it: somebody else spoiled the item.
        stored.ok_or_else(|| {
            TableError::Unavailable(format!(
                "UpdateItem on {}: the item is no lease",
                self.table
            ))
        })
    }

    /// The item's lease; else says why there is none, once.
    fn lease(&self, item: &Item) -> Option<Lease> {
        let reason = match parse(item) {
            Parsed::Lease {
                lease,
                stream: None,
            } => return Some(*lease),
            Parsed::Lease {
                stream: Some(stream),
                ..
            } => format!("of the multi-stream application's stream {stream}"),
            Parsed::Other(kind) => format!("entityType {kind}"),
            Parsed::Broken(reason) => reason,
        };
        let key = item::key(item);
        if self
            .skipped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.to_owned())
        {
            tracing::debug!(
                table = self.table,
                key,
                reason,
                "skipped an item that is no lease of ours to read"
            );
        }
        None
    }

    /// `process`: of the new owner, where that is this one.
    async fn own(
        &self,
        lease: &Lease,
        worker: &str,
        process: Option<&str>,
        condition: &str,
    ) -> Result<Lease, TableError> {
        let (set, remove) = match process {
            Some(_) => (", nativeProcess = :process", ""),
            None => ("", ", nativeProcess"),
        };
        let mut expression = format!(
            "SET leaseOwner = :worker, leaseCounter = :next, nativeCounter = :next{set} \
             REMOVE checkpointOwner, handoverTo, busy{remove}"
        );
        let mut update = self
            .beat(lease)
            .expression_attribute_values(":worker", string(worker));
        if let Some(process) = process {
            update = update.expression_attribute_values(":process", string(process));
        }
        if lease.owner.as_deref().is_some_and(|owner| owner != worker) {
            expression.push_str(" ADD ownerSwitchesSinceCheckpoint :one");
            update = update.expression_attribute_values(":one", number(1));
        }
        self.send(
            update
                .update_expression(expression)
                .condition_expression(condition),
        )
        .await
    }

    async fn release_as_read(&self, lease: &Lease) -> Result<(), TableError> {
        let update = match &lease.checkpoint_owner {
            None => self
                .beat(lease)
                .update_expression(
                    "SET leaseCounter = :next REMOVE leaseOwner, nativeCounter, nativeProcess, handoverTo, busy",
                )
                .condition_expression(
                    "leaseCounter = :counter AND attribute_not_exists(checkpointOwner)",
                ),
            // A KCL 3 leader gives it to somebody: leaseOwner is the next one.
            Some(checkpoint_owner) => self
                .beat(lease)
                .update_expression(
                    "SET leaseCounter = :next REMOVE checkpointOwner, nativeCounter, nativeProcess, handoverTo, busy",
                )
                .condition_expression(
                    "leaseCounter = :counter AND checkpointOwner = :checkpointOwner",
                )
                .expression_attribute_values(":checkpointOwner", string(checkpoint_owner)),
        };
        self.send(update).await.map(drop)
    }
}

#[async_trait]
impl LeaseTable for DynamoDbTable {
    async fn ensure_exists(&self) -> Result<bool, TableError> {
        creation::ensure_exists(&self.client, &self.table).await
    }

    async fn scan(&self) -> Result<Vec<Lease>, TableError> {
        let mut leases = Vec::new();
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify("Scan", &self.table, &error))?;
            leases.extend(page.items().iter().filter_map(|item| self.lease(item)));
        }
        Ok(leases)
    }

    async fn read(&self, key: &str) -> Result<Option<Lease>, TableError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("leaseKey", string(key));
        let answer = request.consistent_read(true).send().await;
        let answer = answer.map_err(|error| classify("GetItem", &self.table, &error))?;
        Ok(answer.item().and_then(|item| self.lease(item)))
    }

    async fn create(&self, lease: &Lease) -> Result<bool, TableError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(new_item(lease)));
        match put
            .condition_expression("attribute_not_exists(leaseKey)")
            .send()
            .await
        {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(classify("PutItem", &self.table, &error)),
        }
    }

    async fn take(&self, lease: &Lease, worker: &str) -> Result<Lease, TableError> {
        let process = Some(self.process.as_str());
        self.own(lease, worker, process, "leaseCounter = :counter")
            .await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, TableError> {
        let condition = "leaseCounter = :counter AND attribute_not_exists(checkpointOwner)";
        self.send(self.renewal(lease, "", &[]).condition_expression(condition))
            .await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: &Checkpoint,
    ) -> Result<Lease, TableError> {
        let update = self
            .renewal(
                lease,
                ", checkpoint = :checkpoint, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero",
                &["pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState", "latestSince"],
            )
            .condition_expression("leaseCounter = :counter")
            .expression_attribute_values(":checkpoint", string(checkpoint.as_str()))
            .expression_attribute_values(":sub", number(checkpoint.sub_sequence_number()))
            .expression_attribute_values(":zero", number(0));
        self.send(update).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), TableError> {
        match self.release_as_read(lease).await {
            // A KCL 3 leader began to move it since: that does not move the counter, and does not make it less ours to give.
            Err(TableError::Conflict(Some(stored))) if stored.counter == lease.counter => {
                self.release_as_read(&stored).await
            }
            done => done,
        }
    }

    async fn hand_over(&self, lease: &Lease, to: &str) -> Result<(), TableError> {
        let condition = "leaseCounter = :counter AND attribute_not_exists(checkpointOwner)";
        self.own(lease, to, None, condition).await.map(drop)
    }

    async fn ask(&self, lease: &Lease, worker: &str) -> Result<(), TableError> {
        let Some(owner) = &lease.owner else {
            return Err(TableError::Conflict(Some(Box::new(lease.clone()))));
        };
        let as_read = "leaseOwner = :owner AND nativeCounter = leaseCounter AND attribute_not_exists(checkpointOwner)";
        let update = self
            .update(&lease.key)
            .update_expression("SET handoverTo = :worker")
            .expression_attribute_values(":worker", string(worker))
            .expression_attribute_values(":owner", string(owner));
        let update = match &lease.handover_to {
            None => update
                .condition_expression(format!("{as_read} AND attribute_not_exists(handoverTo)")),
            Some(asker) => update
                .condition_expression(format!("{as_read} AND handoverTo = :asker"))
                .expression_attribute_values(":asker", string(asker)),
        };
        self.send(update).await.map(drop)
    }

    async fn remember_latest(&self, key: &str, since: Timestamp) -> Result<(), TableError> {
        let update = self
            .update(key)
            .update_expression("SET latestSince = :since")
            .condition_expression("checkpoint = :latest AND attribute_not_exists(latestSince)")
            .expression_attribute_values(":since", number(since.as_millisecond()))
            .expression_attribute_values(":latest", string(Checkpoint::Latest.as_str()));
        self.send(update).await.map(drop)
    }

    async fn set_children(
        &self,
        key: &str,
        children: &BTreeSet<ShardId>,
    ) -> Result<(), TableError> {
        if children.is_empty() {
            // DynamoDB has no empty sets: unset is absent.
            return Ok(());
        }
        let update = self
            .update(key)
            .update_expression("SET childShardIds = :children")
            .condition_expression("attribute_exists(leaseKey)")
            .expression_attribute_values(":children", strings(children));
        self.send(update).await.map(drop)
    }

    async fn set_hash_range(&self, key: &str, range: HashRange) -> Result<(), TableError> {
        let update = self
            .update(key)
            .update_expression("SET startingHashKey = :start, endingHashKey = :end")
            .condition_expression("attribute_exists(leaseKey)")
            .expression_attribute_values(":start", string(range.start.to_string()))
            .expression_attribute_values(":end", string(range.end.to_string()));
        self.send(update).await.map(drop)
    }

    async fn delete(&self, lease: &Lease) -> Result<(), TableError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("leaseKey", string(&lease.key))
            .condition_expression("leaseCounter = :counter AND checkpoint = :end")
            .expression_attribute_values(":counter", number(lease.counter))
            .expression_attribute_values(":end", string(Checkpoint::ShardEnd.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let failed = match delete.send().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(match failed.as_service_error() {
            Some(DeleteItemError::ConditionalCheckFailedException(failed)) => TableError::Conflict(
                failed
                    .item()
                    .and_then(|item| self.lease(item))
                    .map(Box::new),
            ),
            _ => classify("DeleteItem", &self.table, &failed),
        })
    }

    async fn kcl3_state(&self) -> Result<Kcl3State, TableError> {
        kcl3::state(&self.client, &self.table, &self.side_table).await
    }
}
