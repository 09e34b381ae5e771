//! One shard's life in this worker: one task per held lease.
//!
//! ```text
//!             ┌───────────────┐   ┌────────────┐   ┌─────────┐ end ┌───────────┐
//! lease held →│ await_parents │ → │ initialize │ → │ process │ ──→ │ end_shard │ → Ended::Finished
//!             └───────┬───────┘   └─────┬──────┘   └────┬────┘     └─────┬─────┘
//!                     └── lease lost, hand-over, shutdown, failed stream ┘
//!                                        ↓
//!       ┌───────────┐ lost: lease_lost                      → Ended::Lost, or Ended::Failed where
//!       │ shut_down │                                         a process of our name has it
//!       │           │ stopped: shutdown_requested, give up  → Ended::GivenUp
//!       └───────────┘ failed: as stopped                    → Ended::Failed
//! ```
//! Each state returns to the next one, or leaves with a [`Leave`]. Whatever the processor does, an
//! error or a panic, the lease stays (its renewal is another task) and the records that it has not
//! acknowledged come again. After a panic, or where it says that it is unusable, the processor is
//! made anew, and the shard is read from what was acknowledged: whatever the old one had taken and
//! kept is gone with it.

use std::{sync::Arc, time::Duration};

use backon::ExponentialBackoff;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    edge::lease_table::TableError,
    face::{
        checkpointer::{Checkpointer, LeaseHandle},
        config::Config,
        error::Error,
        event::Event,
        processor::{AnyProcessor, Call},
    },
    model::{keys::LeaseKey, lease::Lease, shard::ChildShard},
    run::{
        context::{Context, PROCESSOR, backoff, exact_backoff},
        held_lease::{Given, HeldLease},
        retrieval::{Fetched, Fetching},
        stream::Stream,
    },
};

mod attend;
mod deliver;
mod end;
mod pin;

use attend::{UserError, attend, bounded, idle, leaving};

/// Why a shard consumer shall stop although its lease is held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// Another worker asked for the lease. The batch in work ends first, however long it takes.
    HandOver(String),
    /// The worker stops. User code has until then.
    Shutdown(Instant),
}

/// What became of a lease.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The shard is processed to its end; these are its children's leases as just created or found.
    Finished(Vec<Lease>),
    /// Another worker has it.
    Lost,
    /// Given to another worker, or to nobody.
    GivenUp,
    /// Given up, as the worker must.
    Failed(Error),
}

/// Why a state was left other than to the next one.
enum Leave {
    Lost,
    Stopped(Stop),
    /// User code was not done at the deadline, and was dropped.
    Abandoned,
    /// The processor panicked, or is unusable by its own word: it is made anew.
    Unusable,
    Failed(Error),
}

/// The processor's failures in a row.
struct Trouble {
    attempt: u32,
    /// One of them was of a kind that waiting does not mend.
    lasting: bool,
    waits: ExponentialBackoff,
}

pub(crate) struct ShardConsumer {
    context: Arc<Context>,
    stream: Arc<Stream>,
    lease: Arc<HeldLease>,
    stop: watch::Receiver<Option<Stop>>,
    checkpointer: Checkpointer,
    processor: Option<Box<dyn AnyProcessor>>,
    trouble: Trouble,
}

impl ShardConsumer {
    /// `stored`: the lease as just taken.
    pub(crate) fn new(
        context: Arc<Context>,
        stream: Arc<Stream>,
        lease: Arc<HeldLease>,
        stored: &Lease,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Self {
        Self {
            checkpointer: Checkpointer::new(Arc::clone(&lease) as _, stored.checkpoint.clone()),
            trouble: Trouble::new(&context.config),
            context,
            stream,
            lease,
            stop,
            processor: None,
        }
    }

    pub(crate) async fn run(mut self) -> Ended {
        match self.live().await {
            Ok(children) => Ended::Finished(children),
            Err(leave) => self.shut_down(leave).await,
        }
    }

    async fn live(&mut self) -> Result<Vec<Lease>, Leave> {
        self.await_parents().await?;
        loop {
            match self.read().await {
                Err(Leave::Unusable) => {
                    self.processor = None;
                    self.checkpointer = self.checkpointer.renew();
                }
                ended => return ended,
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<Lease>, Leave> {
        let start = self.initialize().await?;
        let children = self.process(&start).await?;
        self.end_shard(children).await
    }

    // === states ===

    /// Until each parent's lease is finished, or there is none.
    async fn await_parents(&mut self) -> Result<(), Leave> {
        let mut lease = self.lease.copy().await;
        self.stream.ownership.correct(&mut lease);
        let mut waiting: Vec<_> = lease.parent_keys().collect();
        let interval = self.context.config.parent_poll_interval;
        // Nobody works on the shard meanwhile.
        let failures = || backoff(interval / 10, interval);
        let mut waits = failures();
        while let Some(parent) = waiting.last() {
            let answer = self.context.table.read(parent).await;
            if answer.is_ok() {
                self.context.succeeded("read");
            }
            match answer {
                Ok(Some(lease)) if !lease.is_finished() => {
                    waits = failures();
                    self.rest(interval).await?
                }
                Ok(_) => {
                    waits = failures();
                    drop(waiting.pop());
                }
                Err(error) => {
                    self.context.table_failed(Some(parent), "read", &error);
                    self.rest(waits.next().unwrap_or(interval)).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes the processor. Returns the lease as reading starts from it.
    async fn initialize(&mut self) -> Result<Lease, Leave> {
        let mut start = self.pin_latest().await?;
        self.stream.ownership.correct(&mut start);
        // The table may not have it yet.
        start.checkpoint = start.checkpoint.max(self.checkpointer.acknowledged());
        loop {
            self.confirm().await?;
            // Only a processor whose `initialize` returned `Ok` is called later.
            let Self {
                context,
                stop,
                lease,
                ..
            } = self;
            let work = async {
                let mut processor = (context.factory)(lease.key().clone());
                processor
                    .initialize(&start.checkpoint)
                    .await
                    .map(|()| processor)
            };
            let made = tokio::select! {
                biased;
                made = bounded(stop, attend(work)) => made.ok_or(Leave::Abandoned)?,
                () = lease.ended() => return Err(Leave::Lost),
            };
            match made {
                Ok(processor) => {
                    self.processor = Some(processor);
                    self.context.report(Event::ShardStarted {
                        shard: self.lease.key().clone(),
                        checkpoint: start.checkpoint.clone(),
                    });
                    return Ok(start);
                }
                // Each attempt has a processor of its own.
                Err(error) => match self.failed(&error).await {
                    Ok(()) | Err(Leave::Unusable) => {}
                    Err(leave) => return Err(leave),
                },
            }
        }
    }

    /// Until the shard's end; returns its children.
    async fn process(&mut self, start: &Lease) -> Result<Vec<ChildShard>, Leave> {
        let (context, stream) = (Arc::clone(&self.context), Arc::clone(&self.stream));
        let mut fetching = Fetching::start(context, stream, start);
        loop {
            let Self {
                lease,
                stop,
                processor,
                checkpointer,
                ..
            } = self;
            let fetched = tokio::select! {
                biased;
                leave = leaving(lease, stop) => return Err(leave),
                fetched = fetching.next() => fetched,
                error = idle(processor.as_mut(), checkpointer) => {
                    self.failed(&error).await?;
                    continue;
                }
            };
            match fetched {
                Some(Fetched::Batch { batch, room }) => {
                    self.deliver(batch, &fetching.hand()).await?;
                    drop(room);
                }
                Some(Fetched::Unfit { unfit, room }) => {
                    self.set_aside(unfit, &fetching.hand()).await?;
                    drop(room);
                }
                Some(Fetched::End(children)) => return Ok(children),
                Some(Fetched::Failed(error)) => return Err(Leave::Failed(error)),
                // A bug made the task panic. Nothing is lost: another start reads on from the
                // checkpoint.
                None => return Err(Leave::Abandoned),
            }
        }
    }

    async fn shut_down(mut self, leave: Leave) -> Ended {
        match &leave {
            Leave::Lost => self.lease_lost().await,
            Leave::Stopped(_) | Leave::Failed(_) => self.shutdown_requested().await,
            Leave::Abandoned | Leave::Unusable => {}
        }
        let key = self.lease.key().clone();
        match leave {
            Leave::Lost if self.lease.went_to_namesake() => {
                Ended::Failed(self.context.worker_id_in_use(key))
            }
            Leave::Lost => Ended::Lost,
            Leave::Stopped(Stop::HandOver(to)) => {
                match self.lease.give_up(Some(&to)).await {
                    Some(Given::HandedOver) => {
                        self.context.report(Event::HandedOver { shard: key, to });
                    }
                    Some(Given::Released) => {
                        self.context.report(Event::LeaseReleased { shard: key });
                    }
                    None => {}
                }
                Ended::GivenUp
            }
            Leave::Stopped(Stop::Shutdown(_)) | Leave::Abandoned | Leave::Unusable => {
                self.release(key).await;
                Ended::GivenUp
            }
            Leave::Failed(error) => {
                self.release(key).await;
                Ended::Failed(error)
            }
        }
    }

    async fn release(&mut self, key: LeaseKey) {
        if self.lease.give_up(None).await.is_some() {
            self.context.report(Event::LeaseReleased { shard: key });
        }
    }

    // === parts of states ===

    async fn lease_lost(&mut self) {
        let Self {
            stop, processor, ..
        } = self;
        let Some(processor) = processor else { return };
        let work = attend(async {
            processor.lease_lost().await;
            Ok(())
        });
        if let Some(Err(error)) = bounded(stop, work).await {
            self.report_failure(1, error.text, Duration::ZERO);
        }
    }

    async fn shutdown_requested(&mut self) {
        let requested = self.call(|processor, to| processor.shutdown_requested(to));
        if let Ok(Err(error)) = requested.await
            && !self.lease.is_over()
        {
            self.report_failure(1, error.text, Duration::ZERO);
        }
    }

    /// Calls the processor, until the lease is lost or the shutdown deadline at the most.
    async fn call<'a>(
        &'a mut self,
        work: impl FnOnce(&'a mut dyn AnyProcessor, &'a Checkpointer) -> Call<'a> + Send,
    ) -> Result<Result<(), UserError>, Leave> {
        let processor = self.processor.as_deref_mut().ok_or(Leave::Abandoned)?;
        let work = attend(work(processor, &self.checkpointer));
        tokio::select! {
            biased;
            done = bounded(&mut self.stop, work) => done.ok_or(Leave::Abandoned),
            () = self.lease.ended() => Err(Leave::Lost),
        }
    }

    /// Before user code is called: the lease is surely ours.
    async fn confirm(&mut self) -> Result<(), Leave> {
        tokio::select! {
            biased;
            leave = leaving(&self.lease, &mut self.stop) => Err(leave),
            ours = self.lease.confirm() => if ours { Ok(()) } else { Err(Leave::Lost) },
        }
    }

    async fn rest(&mut self, time: Duration) -> Result<(), Leave> {
        tokio::select! {
            biased;
            leave = leaving(&self.lease, &mut self.stop) => Err(leave),
            () = sleep(time) => Ok(()),
        }
    }

    async fn table_trouble(
        &mut self,
        operation: &'static str,
        error: &TableError,
        failures: &mut ExponentialBackoff,
    ) -> Result<(), Leave> {
        self.context
            .table_failed(Some(self.lease.key()), operation, error);
        self.rest(failures.next().unwrap_or_default()).await
    }

    /// Reports the processor's failure and waits.
    async fn failed(&mut self, error: &UserError) -> Result<(), Leave> {
        if self.lease.is_over() {
            // Its checkpoint was refused; that is not its fault.
            return Err(Leave::Lost);
        }
        if error.lasting {
            self.trouble.lasting = true;
            self.context.processor_failed(self.lease.key(), &error.text);
        }
        self.trouble.attempt += 1;
        let retry_in = self.trouble.waits.next().unwrap_or_default();
        self.report_failure(self.trouble.attempt, error.text.clone(), retry_in);
        self.rest(retry_in).await?;
        if error.unusable {
            return Err(Leave::Unusable);
        }
        Ok(())
    }

    /// The processor did what was asked of it.
    fn succeeded(&mut self) {
        if std::mem::replace(&mut self.trouble, Trouble::new(&self.context.config)).lasting {
            self.context.succeeded(PROCESSOR);
        }
    }

    fn report_failure(&self, attempt: u32, error: String, retry_in: Duration) {
        self.context.report(Event::ProcessorFailed {
            shard: self.lease.key().clone(),
            attempt,
            error,
            retry_in,
        });
    }

    fn processor_failures(&self) -> ExponentialBackoff {
        Trouble::new(&self.context.config).waits
    }
}

impl Trouble {
    fn new(config: &Config) -> Self {
        Self {
            attempt: 0,
            lasting: false,
            waits: exact_backoff(config.processor_backoff, Duration::from_secs(60)),
        }
    }
}

fn table_failures() -> ExponentialBackoff {
    backoff(Duration::from_millis(200), Duration::from_secs(5))
}
