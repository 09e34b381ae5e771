//! The slow loop: has shards and leases compared, by the warden for all, and by whoever misses a
//! lease.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::{
    edge::{kinesis::KinesisError, lease_table::TableError},
    face::{error::Error, event::Event},
    run::{
        audit::{Audit, QUICK_AUDIT, Seen, Trouble, put_back},
        context::{Context, backoff, pause},
        stream::Stream,
    },
};

/// Where no stream is read, one that comes is told.
const NOTHING: Duration = Duration::from_secs(3600);
/// Audits at a time.
const CONCURRENCY: usize = 8;

pub(crate) struct Auditor {
    context: Arc<Context>,
    audits: Vec<Audit>,
    /// A lease is missing, or an audit failed: it is not left to the warden.
    is_needed: bool,
    /// Denials are an operator's mistake at the start, and passing trouble once things have worked.
    worked: bool,
}

impl Auditor {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            audits: Vec::new(),
            is_needed: false,
            context,
            worked: false,
        }
    }

    /// Audits for ever. Returns why the worker must stop.
    pub(crate) async fn run(mut self) -> Error {
        let mut is_warden = self.context.fleet.audits();
        loop {
            self.follow();
            let context = Arc::clone(&self.context);
            let next_audits = self.audits.iter().map(|audit| audit.next);
            let next_audit = next_audits
                .min()
                .unwrap_or_else(|| Instant::now() + NOTHING);
            tokio::select! {
                biased;
                () = sleep_until(next_audit) => {}
                () = context.reaudit.notified() => {
                    self.is_needed = true;
                    let audits = self.audits.iter_mut();
                    let lacking = audits.filter(|audit| audit.stream.lacked_leases());
                    lacking.for_each(Audit::hasten);
                }
                Ok(()) = is_warden.changed() => {
                    let is_warden = *is_warden.borrow_and_update();
                    let audits = self.audits.iter_mut().filter(|_| is_warden);
                    audits.for_each(|audit| audit.next = Instant::now());
                }
                () = context.streams.changed.notified() => continue,
            }
            let now = Instant::now();
            let fails =
                |audit: &Audit| audit.next <= now && audit.stream.health.failing().is_some();
            // Whoever told that a stream fails finds out when it recovers.
            self.is_needed |= self.audits.iter().any(fails);
            if !self.is_needed && !*is_warden.borrow() {
                let due = self.audits.iter_mut().filter(|audit| audit.next <= now);
                due.for_each(Audit::leave);
                continue;
            }
            if let Err(error) = self.audit().await {
                return error;
            }
        }
    }

    /// Audits exactly the streams that are read.
    fn follow(&mut self) {
        let read = self.context.streams.all();
        let is_read = |audit: &Audit| read.iter().any(|it| Arc::ptr_eq(it, &audit.stream));
        self.audits.retain(is_read);
        for stream in read {
            let is_audited = |audit: &Audit| Arc::ptr_eq(&stream, &audit.stream);
            if !self.audits.iter().any(is_audited) {
                let context = Arc::clone(&self.context);
                self.audits.push(Audit::new(context, stream));
            }
        }
    }

    /// The audits that are due. One scan does for all of them, and for those that are due soon.
    async fn audit(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.audits.iter().all(|audit| audit.next > now) {
            return Ok(());
        }
        self.is_needed = false;
        let soon = now + self.context.config.times().shard_sync_interval / 5;
        let context = Arc::clone(&self.context);
        let audits = std::mem::take(&mut self.audits).into_iter();
        let (due, later): (Vec<_>, _) = audits.partition(|audit| audit.next <= soon);
        self.audits = later;
        let audited: Vec<Audited> = match Seen::scan(&context).await {
            Ok(seen) => {
                let seen = Arc::new(seen);
                let audits = due.into_iter();
                let audits = audits.map(|audit| audited(audit, Arc::clone(&seen)).boxed());
                let audits = stream::iter(audits).buffer_unordered(CONCURRENCY);
                audits.collect().await
            }
            Err(error) => {
                let failed = |audit| (audit, Err(error.clone().into()));
                due.into_iter().map(failed).collect()
            }
        };
        for (mut audit, answer) in audited {
            match answer {
                Ok(wait) => {
                    self.worked = true;
                    context.succeeded("audit");
                    audit.stream.audited();
                    audit.done(wait);
                }
                Err(trouble) => {
                    let worked = match trouble {
                        Trouble::Table(_) => self.worked,
                        Trouble::Kinesis(_) | Trouble::Race(_) | Trouble::Fatal(_) => audit.worked,
                    };
                    if let Some(error) = fatal(&context, &audit.stream, worked, trouble) {
                        audit.stream.give_up(error)?;
                        context.streams.look.notify_one();
                    }
                    self.is_needed = true;
                    audit.failed();
                }
            }
            self.audits.push(audit);
        }
        for operation in context.reports.standing.expired() {
            context.report(Event::Recovered { operation });
        }
        let patience = context.config.give_up_after;
        context.streams.all_failing(patience).map_or(Ok(()), Err)
    }

    /// Makes the table anew that is missing, with the leases where they were seen last: for whoever
    /// comes when this worker is gone.
    pub(crate) async fn restore(&self) {
        let mut failures = backoff(QUICK_AUDIT / 4, QUICK_AUDIT);
        while let Err(error) = self.try_restore().await {
            self.context.table_failed(None, "restore", &error);
            if matches!(error, TableError::Permanent(_)) && !error.is_of_missing_table() {
                return;
            }
            pause(&mut failures).await;
        }
    }

    async fn try_restore(&self) -> Result<(), TableError> {
        let context = &*self.context;
        context.table.ensure_exists().await?;
        let began = Instant::now();
        let scan = context.table.scan().await?;
        let lost = context.known().lost(&scan);
        put_back(context, lost).await?;
        context.known().observe(&scan.leases, began);
        Ok(())
    }
}

/// An audit, and what came of it.
type Audited = (Audit, Result<Duration, Trouble>);

async fn audited(mut audit: Audit, seen: Arc<Seen>) -> Audited {
    let answer = audit.run(&seen).await;
    (audit, answer)
}

/// Reports the trouble, or returns the error where waiting does not help.
fn fatal(context: &Context, stream: &Stream, worked: bool, trouble: Trouble) -> Option<Error> {
    match trouble {
        Trouble::Fatal(error) => return Some(*error),
        // A table that was just created is missing for a moment.
        Trouble::Table(error @ TableError::Permanent(_))
            if !worked && !error.is_of_missing_table() =>
        {
            return Some(context.table_error(error));
        }
        Trouble::Table(error) => context.table_failed(None, "audit", &error),
        Trouble::Kinesis(error @ KinesisError::NotFound(_)) => {
            return Some(stream.error(error));
        }
        Trouble::Kinesis(error @ KinesisError::Permanent(_)) if !worked => {
            return Some(stream.error(error));
        }
        Trouble::Kinesis(error) => stream.call_failed(None, "ListShards", &error),
        Trouble::Race(error) => context.report(Event::Retrying {
            shard: None,
            operation: "ListShards",
            error: match &stream.id {
                Some(id) => format!("{id}: {error}"),
                None => error,
            },
        }),
    }
    None
}
