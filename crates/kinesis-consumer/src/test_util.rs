//! What you need to test your processor, and what stands between you and the library's insides.
//! Behind the feature `test-util`, for dev-dependencies: only [`MemoryKinesis`], [`MemoryTable`]
//! and [`checkpointer`] are kept stable.
//!
//! A whole worker runs over a stream and a lease table in memory, in milliseconds on tokio's paused
//! clock:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use kinesis_consumer::{
//!     Config, InitialPosition, Worker, each_batch,
//!     test_util::{MemoryKinesis, MemoryTable},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let kinesis = MemoryKinesis::new(2);
//! kinesis.put("customer-1", "a");
//! let (shard, last) = kinesis.put("customer-1", "b");
//!
//! let seen = Arc::new(Mutex::new(Vec::new()));
//! let to = Arc::clone(&seen);
//! let processor = each_batch(move |batch, _| {
//!     let to = Arc::clone(&to);
//!     async move {
//!         to.lock().unwrap().extend(batch.records.into_iter().map(|record| record.data));
//!         Ok(())
//!     }
//! });
//!
//! let mut config = Config::new("orders", "billing", "worker-1");
//! config.initial_position = InitialPosition::TrimHorizon;
//! let table = MemoryTable::new();
//! let minute = tokio::time::sleep(std::time::Duration::from_secs(60));
//! Worker::over(config, kinesis, table.clone(), processor).run(minute).await.unwrap();
//!
//! assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
//! assert_eq!(table.lease(shard).unwrap().checkpoint.to_string(), last.to_string());
//! # }
//! ```
//!
//! A processor alone needs a [`checkpointer`] and [`Batch`](crate::Batch)es of
//! [`Record`](crate::Record)s that you make.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    Batch, CheckpointError, Checkpointer, Event, Record,
    decide::aggregation::{self, Carried},
    face::checkpointer::LeaseHandle,
    model::{keys::LeaseKey, sequence::Checkpoint, shard::HashRange},
};

pub use kinesis_edge::Room;

pub use crate::{
    decide::{
        assignment::kcl2::Kcl2Taker,
        placement::{Loads, Move, Weighed},
        shard_sync::{child_shards, initial},
    },
    edge::{
        account::{Account, FoundStream, memory::MemoryAccount, sdk::SdkAccount},
        kinesis::{
            Consumer, ConsumerStatus, Kinesis, Page, ShardFilter, StartFrom, Subscription,
            SubscriptionEvent,
            memory::{MemoryKinesis, MemoryStream, MemorySubscription, Place, Pushed},
            sdk::SdkKinesis,
        },
        lease_table::{
            Kcl3State, LeaderLock, LeaseTable, Scan, UsageSink,
            dynamodb::DynamoDbTable,
            memory::{Fault, MemoryTable, Outcome, TableCall},
        },
    },
    model::shard::ChildShard,
};

/// The records that `record` carries, of a shard with these hash keys: itself, or the user records
/// of a KPL aggregate. `None`: the aggregate is not delivered record by record.
pub fn deaggregate(record: Record, range: Option<HashRange>) -> Option<Vec<Record>> {
    match aggregation::open(record, range) {
        Carried::Plain(record) => Some(vec![record]),
        Carried::Users(mut aggregate) => {
            let mut records = Vec::new();
            aggregate.take(aggregate.left(), &mut records);
            Some(records)
        }
        Carried::Unfit(_) => None,
    }
}

/// A checkpointer without a worker, to call a processor with: of a lease at TRIM_HORIZON.
///
/// ```
/// use kinesis_consumer::{Batch, Record, RecordProcessor, test_util::checkpointer};
/// # use kinesis_consumer::{Checkpointer, ProcessorError};
/// # struct Mine;
/// # impl RecordProcessor for Mine {
/// #     async fn process_records(&mut self, batch: &Batch, checkpointer: &Checkpointer)
/// #     -> Result<(), ProcessorError> {
/// #         checkpointer.reject(&batch.records[0], "too small");
/// #         Ok(checkpointer.checkpoint().await?)
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ProcessorError> {
/// let (checkpointer, lease) = checkpointer("shardId-000000000000");
/// let batch = Batch::new(vec![Record::new("41".parse()?, "customer-1", "data")]);
/// lease.deliver(&batch);
/// Mine.process_records(&batch, &checkpointer).await?;
/// assert_eq!(lease.checkpoint().to_string(), "41");
/// assert_eq!(lease.events().len(), 1, "one record is rejected");
///
/// lease.lose();
/// assert!(Mine.process_records(&batch, &checkpointer).await.is_err());
/// # Ok(())
/// # }
/// ```
pub fn checkpointer(lease: impl Into<LeaseKey>) -> (Checkpointer, TestLease) {
    let handle = Arc::new(Handle {
        key: lease.into(),
        over: CancellationToken::new(),
        checkpoint: Mutex::new(Checkpoint::TrimHorizon),
        events: Mutex::default(),
    });
    let checkpointer = Checkpointer::new(Arc::clone(&handle) as _, Checkpoint::TrimHorizon);
    let lease = TestLease {
        handle,
        checkpointer: checkpointer.clone(),
    };
    (checkpointer, lease)
}

/// The lease of a [`checkpointer`] without a worker.
#[derive(Debug)]
pub struct TestLease {
    handle: Arc<Handle>,
    checkpointer: Checkpointer,
}

impl TestLease {
    /// The batch goes to the processor: it can be checkpointed from now on.
    pub fn deliver(&self, batch: &Batch) {
        self.checkpointer.take_rejected(&batch.records);
        if let Some(last) = batch.records.last() {
            self.checkpointer
                .deliver_to(Checkpoint::At(last.position()));
        }
    }

    /// The lease goes to another worker: checkpoints are refused from now on.
    pub fn lose(&self) {
        self.handle.over.cancel();
    }

    /// The checkpoint as written last.
    pub fn checkpoint(&self) -> Checkpoint {
        lock(&self.handle.checkpoint).clone()
    }

    /// What was reported: rejected records.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.handle.events).clone()
    }
}

#[derive(Debug)]
struct Handle {
    key: LeaseKey,
    over: CancellationToken,
    checkpoint: Mutex<Checkpoint>,
    events: Mutex<Vec<Event>>,
}

#[async_trait]
impl LeaseHandle for Handle {
    fn key(&self) -> &LeaseKey {
        &self.key
    }

    fn over(&self) -> &CancellationToken {
        &self.over
    }

    fn report(&self, event: Event) {
        lock(&self.events).push(event);
    }

    fn acknowledge(&self, to: &Checkpoint) {
        let mut stored = lock(&self.checkpoint);
        if *stored < *to {
            stored.clone_from(to);
        }
    }

    async fn checkpoint(&self, to: &Checkpoint) -> Result<(), CheckpointError> {
        self.acknowledge(to);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
