//! What is looked at before any lease is touched: the table is there and of this library's kind,
//! its positions are of this stream, and whether a KCL 3 leader lives can be asked.

use std::{sync::Arc, time::Duration};

use backon::ExponentialBackoff;
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use crate::{
    decide::shard_sync,
    edge::{
        kinesis::{KinesisError, ShardFilter},
        lease_table::{Kcl3State, Scan, TableError},
    },
    face::{error::Error, event::Event},
    model::{lease::Lease, shard::Shard},
    run::{
        context::{Context, backoff, pause},
        ownership::Owner,
        proof::{Proof, prove},
        stream::Stream,
    },
};

/// The longest that a table is missing after its creation: its answers are not of one moment.
const CREATION_LAG: Duration = Duration::from_secs(60);
/// `ListShards` is so long behind a reshard before it is believed against leases of nobody knows
/// which stream. (A worker that stops for it in error starts again, and has touched nothing.)
const SETTLED: Duration = Duration::from_secs(4);
/// Concurrent proofs.
const CONCURRENCY: usize = 16;

#[derive(Debug)]
pub(crate) struct Admission<'a> {
    context: &'a Context,
    began: Instant,
    failures: ExponentialBackoff,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(context: &'a Arc<Context>) -> Self {
        Self {
            context,
            began: Instant::now(),
            failures: backoff(Duration::from_millis(200), Duration::from_secs(10)),
        }
    }

    pub(crate) async fn run(mut self) -> Result<(), Error> {
        self.ensure_exists().await?;
        let scan = self.scan().await?;
        self.check_kind(&scan)?;
        let streams = self.context.streams.all().into_iter();
        for stream in streams.filter(|stream| stream.id.is_none()) {
            self.check_owner(&stream, &scan.leases).await?;
        }
        self.see_kcl3(&scan).await
    }

    // === what kind of table it is ===

    fn check_kind(&self, scan: &Scan) -> Result<(), Error> {
        let foreign = scan.foreign.first();
        let no_lease = || {
            let is_empty = scan.leases.is_empty() && !scan.has_others;
            scan.broken.first().filter(|_| is_empty)
        };
        match foreign.or_else(no_lease) {
            None => Ok(()),
            Some((key, reason)) => Err(Error::ForeignTable {
                table: self.context.config.lease_table.clone(),
                reads: self.context.config.reads(),
                found: format!("item {key}: {reason}"),
            }),
        }
    }

    // === whose positions these are ===

    /// Of several streams, the leases' keys say it.
    async fn check_owner(&mut self, stream: &Stream, leases: &[Lease]) -> Result<(), Error> {
        let ownership = &stream.ownership;
        if leases.is_empty() {
            ownership.set_table_is_ours();
            return Ok(());
        }
        let shards = self.shards(stream).await?;
        ownership.learn(&shards);
        let mut unproven = Vec::new();
        for lease in leases {
            match ownership.judge(lease) {
                Owner::Ours if lease.stream_identity.is_some() => ownership.set_table_is_ours(),
                Owner::Ours => {}
                Owner::Unproven => unproven.push(lease.clone()),
                Owner::Older => {
                    return Err(stream.recreated(lease.key.shard.clone()));
                }
                Owner::Other(name) => return Err(stream.other_by_lease(lease, &name)),
            }
        }
        let shards = if unproven.is_empty() && !ownership.table_is_ours() {
            self.settled(stream, leases, shards).await?
        } else {
            shards
        };
        if unproven.is_empty() {
            if let Some(shard) = shard_sync::recreated(leases, &shards) {
                return Err(stream.impossible(leases, shard));
            }
            ownership.set_table_is_ours();
        }
        self.prove(stream, unproven, &shards).await
    }

    /// The shards, where nothing but sentinels is in the table, which any stream may have: listed
    /// again while they contradict the leases, as after a reshard.
    async fn settled(
        &mut self,
        stream: &Stream,
        leases: &[Lease],
        mut shards: Vec<Shard>,
    ) -> Result<Vec<Shard>, Error> {
        let began = Instant::now();
        while let Some(shard) = shard_sync::of_another(leases, &shards) {
            if began.elapsed() >= SETTLED {
                return Err(stream.recreated(shard));
            }
            sleep(SETTLED / 5).await;
            shards = self.shards(stream).await?;
            stream.ownership.learn(&shards);
        }
        Ok(shards)
    }

    async fn prove(
        &mut self,
        stream: &Stream,
        unproven: Vec<Lease>,
        shards: &[Shard],
    ) -> Result<(), Error> {
        let context = self.context;
        let proofs = stream::iter(unproven).map(|lease| async move {
            let mut failures = backoff(Duration::from_millis(200), Duration::from_secs(10));
            loop {
                match prove(context, stream, &lease).await {
                    Ok(proof) => return Ok((lease, proof)),
                    Err(error @ KinesisError::Permanent(_)) => {
                        return Err(stream.error(error));
                    }
                    Err(error) => {
                        stream.call_failed(Some(&lease.key), "GetRecords", &error);
                        pause(&mut failures).await;
                    }
                }
            }
        });
        let mut proofs = proofs.buffer_unordered(CONCURRENCY);
        let mut gone = None;
        while let Some(proof) = proofs.next().await {
            match proof? {
                (lease, Proof::Ours) => stream.ownership.proved(&lease.key),
                (lease, Proof::Over) => {
                    let is_listed = shards.iter().any(|shard| shard.id == lease.key.shard);
                    gone = gone.or((!is_listed).then_some(lease));
                }
                (lease, Proof::Nothing) => {
                    stream.ownership.saw_empty(&lease, stream.kinesis.now());
                }
                (_, Proof::Foreign(why)) => return Err(stream.other(why)),
            }
        }
        match gone {
            Some(lease) if !stream.ownership.table_is_ours() => {
                let shard = &lease.key.shard;
                let why = format!("the stream has no {shard}, and no checkpoint is one of its own");
                Err(stream.other(why))
            }
            _ => Ok(()),
        }
    }

    // === KCL 3 ===

    /// What KCL 3 has in the table, from the beginning.
    async fn see_kcl3(&mut self, scan: &Scan) -> Result<(), Error> {
        let state = self.kcl3_state().await?;
        self.check_unknown(&state, scan)?;
        self.context.leadership.learn(state);
        Ok(())
    }

    /// Who may not read the table of KCL 3.0 to 3.4 does not know whether a leader lives.
    fn check_unknown(&self, state: &Kcl3State, scan: &Scan) -> Result<(), Error> {
        let Some(denied) = &state.denied else {
            return Ok(());
        };
        let version_3 = |version: &String| version.starts_with("CLIENT_VERSION_3X");
        if !scan.shows_kcl3 && !state.client_version.as_ref().is_some_and(version_3) {
            let error = denied.clone();
            self.context.report(Event::LeaderUnknown { error });
            return Ok(());
        }
        let text = format!(
            "{denied}. The lease table shows KCL 3, whose leader may be alive: allow \
             dynamodb:BatchGetItem on that table"
        );
        Err(self.context.table_error(TableError::Permanent(text.into())))
    }

    // === calls ===

    async fn ensure_exists(&mut self) -> Result<(), Error> {
        loop {
            let answer = self.context.table.ensure_exists().await;
            if self.answered(answer, "ensure_exists").await?.is_some() {
                self.context.succeeded("ensure_exists");
                return Ok(());
            }
        }
    }

    async fn scan(&mut self) -> Result<Scan, Error> {
        loop {
            let answer = self.context.table.scan().await;
            let is_missing = answer.as_ref().is_err_and(TableError::is_of_missing_table);
            if let Some(scan) = self.answered(answer, "scan").await? {
                return Ok(scan);
            }
            if is_missing {
                self.ensure_exists().await?;
            }
        }
    }

    async fn kcl3_state(&mut self) -> Result<Kcl3State, Error> {
        loop {
            let answer = self.context.table.kcl3_state().await;
            if let Some(state) = self.answered(answer, "kcl3_state").await? {
                return Ok(state);
            }
        }
    }

    async fn shards(&mut self, stream: &Stream) -> Result<Vec<Shard>, Error> {
        loop {
            match stream.kinesis.list_shards(ShardFilter::All).await {
                Ok(shards) => return Ok(shards),
                Err(error @ (KinesisError::NotFound(_) | KinesisError::Permanent(_))) => {
                    return Err(stream.error(error));
                }
                Err(error) => {
                    stream.call_failed(None, "ListShards", &error);
                    pause(&mut self.failures).await;
                }
            }
        }
    }

    /// The answer's value. `None`: the call is to be made again, now.
    async fn answered<T: Send>(
        &mut self,
        answer: Result<T, TableError>,
        operation: &'static str,
    ) -> Result<Option<T>, Error> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error @ TableError::Permanent(_))
                if !error.is_of_missing_table() || self.began.elapsed() > CREATION_LAG =>
            {
                Err(self.context.table_error(error))
            }
            Err(error) => {
                self.context.table_failed(None, operation, &error);
                pause(&mut self.failures).await;
                Ok(None)
            }
        }
    }
}
