//! One stream: its shards, iterators, records and consumers.

use std::sync::Arc;

use crate::{Gate, KinesisClient, Service, call::Calls, room::heed_room};

mod consumers;
mod frames;
mod line;
mod listing;
mod open;
mod records;
mod shards;
mod subscription;

pub use consumers::{Consumer, ConsumerStatus};
pub use listing::{Listing, StreamSummary};
pub use records::{ChildShard, Page, Record, StartFrom};
pub use shards::{Shard, ShardFilter};
pub use subscription::{Subscription, SubscriptionEvent};

/// A stream, as one client sees it. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct Stream {
    client: KinesisClient,
    name: Option<String>,
    arn: Option<String>,
    calls: Calls,
}

impl Stream {
    /// The stream of that name, or of that ARN.
    pub fn new(client: KinesisClient, stream: impl Into<String>) -> Self {
        let stream = stream.into();
        let is_arn = stream.starts_with("arn:");
        Self {
            client,
            name: (!is_arn).then(|| stream.clone()),
            arn: is_arn.then_some(stream),
            calls: Calls {
                service: Service::Kinesis,
                gate: None,
            },
        }
    }

    /// Another stream of that name or ARN, by the same client.
    #[must_use]
    pub fn another(&self, stream: impl Into<String>) -> Self {
        Self {
            calls: self.calls.clone(),
            ..Self::new(self.client.clone(), stream)
        }
    }

    /// The same, whose reads can heed their [`Room`](crate::Room):
    /// [`records_within`](Self::records_within).
    #[must_use]
    pub fn heeding_room(mut self) -> Self {
        self.client = heed_room(&self.client);
        self
    }

    /// The same with a gate before each call.
    #[must_use]
    pub fn behind(mut self, gate: Arc<dyn Gate>) -> Self {
        self.calls.gate = Some(gate);
        self
    }

    /// Its name or ARN, as given.
    pub fn as_str(&self) -> &str {
        let stream = self.arn.as_deref().or(self.name.as_deref());
        stream.unwrap_or_default()
    }
}
