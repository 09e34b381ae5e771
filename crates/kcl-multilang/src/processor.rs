//! The library's record processor that hands everything to a child.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::{
    Batch, Checkpoint, Checkpointer, Lasting, LeaseKey, ProcessorError, RecordProcessor, Unusable,
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::{
    child::{Child, ChildError, Desk, Program, Request},
    metrics::Metrics,
    wire::messages::Action,
};

/// After its last message a child has so long to end.
const LAST: Duration = Duration::from_secs(5);

/// What all children have in common.
#[derive(Debug)]
pub struct Daemon {
    /// The program.
    pub program: Program,
    /// How long a child may take for one message.
    pub timeout: Option<Duration>,
    /// How long a child may take for `shutdownRequested`, and for the batch at hand when its lease
    /// is lost.
    pub grace: Duration,
    /// `processRecords` without records is sent after this time without any.
    pub empty_lists_after: Option<Duration>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Children that are about to end.
    pub ends: TaskTracker,
    /// One child of a shard at a time.
    pub places: Places,
    /// Whether a child has ever answered: a program that never does is not the right one.
    pub answered: AtomicBool,
}

/// Places for one child of each shard.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<LeaseKey, Arc<tokio::sync::Mutex<()>>>>);

impl Places {
    fn of(&self, lease: &LeaseKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(lease.clone()).or_default())
    }
}

/// The child of one shard, started when the shard is.
#[derive(Debug)]
pub struct ShardProcessor {
    lease: LeaseKey,
    daemon: Arc<Daemon>,
    child: Option<Child>,
}

impl ShardProcessor {
    /// Without a child yet.
    pub fn new(lease: LeaseKey, daemon: Arc<Daemon>) -> Self {
        Self {
            lease,
            daemon,
            child: None,
        }
    }

    async fn ask(&mut self, request: Request<'_>, desk: Desk<'_>) -> Result<(), ProcessorError> {
        let Some(child) = &mut self.child else {
            return Err(Unusable("there is no child".into()).into());
        };
        match child.ask(request, desk).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// Starts a child, and tells it where its shard stands.
    async fn begin(&mut self, checkpoint: &Checkpoint) -> Result<(), ProcessorError> {
        let alone = self.daemon.places.of(&self.lease).lock_owned().await;
        let child = Child::start(
            &self.daemon.program,
            self.lease.shard.as_str(),
            self.daemon.timeout,
            Arc::clone(&self.daemon.metrics),
            alone,
        )?;
        self.child = Some(child);
        self.ask(Request::Initialize(checkpoint), Desk::Closed)
            .await
    }

    /// Ends the child. The next one starts when it is gone.
    async fn failed(&mut self, error: ChildError) -> ProcessorError {
        self.daemon.metrics.child_failed();
        if let Some(child) = self.child.take() {
            // Not to be broken off.
            let _ = self.daemon.ends.spawn(child.kill()).await;
        }
        Unusable(error.into()).into()
    }
}

impl RecordProcessor for ShardProcessor {
    async fn initialize(&mut self, checkpoint: &Checkpoint) -> Result<(), ProcessorError> {
        let answered = &Arc::clone(&self.daemon).answered;
        match self.begin(checkpoint).await {
            Ok(()) => answered.store(true, Ordering::Relaxed),
            Err(error) if answered.load(Ordering::Relaxed) => return Err(error),
            Err(error) => return Err(Lasting(error).into()),
        }
        Ok(())
    }

    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.ask(Request::Records(batch), Desk::Open(checkpointer))
            .await
    }

    async fn idle(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        let none = Batch::new(Vec::new());
        loop {
            let Some(child) = &mut self.child else {
                return Err(Unusable("there is no child".into()).into());
            };
            let pause = self.daemon.empty_lists_after;
            let died = match pause {
                None => Some(child.died().await),
                Some(pause) => timeout(pause, child.died()).await.ok(),
            };
            match died {
                Some(error) => return Err(self.failed(error).await),
                None => {
                    self.ask(Request::Records(&none), Desk::Open(checkpointer))
                        .await?
                }
            }
        }
    }

    async fn lease_lost(&mut self) {
        if let Some(child) = self.child.take() {
            self.daemon.ends.spawn(lose(child, self.daemon.grace));
        }
    }

    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        self.ask(Request::Plain(Action::ShardEnded), Desk::Open(checkpointer))
            .await
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let grace = self.daemon.grace;
        let request = Request::Plain(Action::ShutdownRequested);
        let asked = timeout(grace, self.ask(request, Desk::Open(checkpointer))).await;
        let Some(child) = self.child.take() else {
            return asked.unwrap_or(Ok(()));
        };
        if asked.is_err() {
            self.daemon.ends.spawn(child.kill());
            return Err(format!("the child did not answer shutdownRequested in {grace:?}").into());
        }
        // The lease need not wait for it.
        self.daemon.ends.spawn(lose(child, LAST));
        Ok(())
    }
}

/// Lets it end what it was asked, says that the lease is lost, and ends it.
async fn lose(mut child: Child, time: Duration) {
    let told = timeout(time, async {
        child.answered(Desk::LeaseLost).await?;
        child
            .ask(Request::Plain(Action::LeaseLost), Desk::Closed)
            .await
    });
    match told.await {
        Ok(Ok(())) => child.stop().await,
        Ok(Err(error)) => {
            warn!(%error, "the child failed at the end of its lease");
            child.kill().await;
        }
        Err(_) => {
            warn!(?time, "the child did not answer leaseLost in time");
            child.kill().await;
        }
    }
}

impl Drop for ShardProcessor {
    fn drop(&mut self) {
        // After the shard's end, or at the shutdown's deadline.
        if let Some(child) = self.child.take() {
            self.daemon.ends.spawn(child.stop());
        }
    }
}
