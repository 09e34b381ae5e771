//! One application, one worker of the candidate and one of KCL 2.7.2: each takes over from the
//! other, and they share.
//!
//! What counts is the lease table: it is looked at all the time, every change of an owner is
//! printed with its time, and what the two processes say that they read must agree with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use kinesis_consumer::test_util::{DynamoDbTable, LeaseTable as _};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    candidate::{Candidate, Worker},
    scenario::{Figures, PATIENCE, SHARDS, name, records, since, trickle, until_reads},
    services::Services,
};

const LOOK: Duration = Duration::from_millis(100);
/// Three of KCL's rounds of taking.
const STILL: Duration = Duration::from_secs(60);
/// A KCL worker notices that a lease was stolen at its next renewal, and reads on until then.
const NOTICED: Duration = Duration::from_secs(10);

const OURS: &str = "candidate";

pub(crate) async fn run(services: &Services, candidate: &Candidate) -> Result<Figures> {
    let java = Candidate::prepare("kcl2")?;
    let stream = name(candidate, "mixed");
    services.create_stream(&stream).await?;
    let trickle = trickle(services, &stream);
    let environment = |worker: &str| services.environment(&stream, &stream, worker);
    let mut watch = Watch::new(services.lease_table(&stream));
    let mut figures = Vec::new();
    let mut tell = |what: &str, figure: String| {
        println!("{what}: {figure}");
        figures.push((what.to_owned(), figure));
    };

    let mut theirs = java.start(&environment("java"))?;
    watch.until(|of| of("java") == SHARDS).await?;
    until_reads(&mut theirs, SHARDS).await?;

    let mut ours = candidate.start(&environment(OURS))?;
    watch.until(|of| of(OURS) > 0).await?;
    tell(
        "joins a KCL 2.7.2 worker → its first shard",
        since(ours.exec),
    );
    watch
        .until(|of| of("java") == SHARDS / 2 && of(OURS) == SHARDS / 2)
        .await?;
    tell("joins a KCL 2.7.2 worker → 2 + 2 shards", since(ours.exec));
    let moved = watch
        .still(("java", &mut theirs), (OURS, &mut ours))
        .await?;
    tell(
        "we joined: leases that move in the minute after",
        moved.to_string(),
    );

    let killed = Instant::now();
    theirs.kill().await?;
    until_reads(&mut ours, SHARDS).await?;
    watch.until(|of| of(OURS) == SHARDS).await?;
    tell(
        "kill -9 of the KCL 2.7.2 worker → its shards go on",
        since(killed),
    );

    let mut again = java.start(&environment("java-again"))?;
    watch
        .until(|of| of("java-again") == SHARDS / 2 && of(OURS) == SHARDS / 2)
        .await?;
    tell("a KCL 2.7.2 worker joins → 2 + 2 shards", since(again.exec));
    let moved = watch
        .still(("java-again", &mut again), (OURS, &mut ours))
        .await?;
    tell(
        "it joined: leases that move in the minute after",
        moved.to_string(),
    );

    let stopped = Instant::now();
    ours.signal("TERM")?;
    watch.until(|of| of("java-again") == SHARDS).await?;
    until_reads(&mut again, SHARDS).await?;
    tell("SIGTERM → the KCL 2.7.2 worker goes on", since(stopped));
    again.kill().await?;
    ours.kill().await?;
    trickle.abort();
    Ok(figures)
}

/// Who owns what, as the table says.
struct Watch {
    table: DynamoDbTable,
    start: Instant,
    owners: BTreeMap<String, String>,
}

impl Watch {
    fn new(table: DynamoDbTable) -> Self {
        Self {
            table,
            start: Instant::now(),
            owners: BTreeMap::new(),
        }
    }

    /// Looks once. Returns how many owners have changed.
    async fn look(&mut self) -> usize {
        // The table is there when the first worker has made it.
        let Ok(scan) = self.table.scan().await else {
            return 0;
        };
        let mut changes = 0;
        for lease in scan.leases {
            let owner = lease.holder().unwrap_or("(nobody)").to_owned();
            let before = self.owners.insert(lease.key.to_string(), owner.clone());
            if before.as_ref() != Some(&owner) {
                changes += 1;
                println!(
                    "  {:>7.2} s  {}: {} → {owner}",
                    self.start.elapsed().as_secs_f64(),
                    lease.key,
                    before.as_deref().unwrap_or("(new)"),
                );
            }
        }
        changes
    }

    fn of(&self, worker: &str) -> BTreeSet<String> {
        let owned = self.owners.iter().filter(|(_, owner)| *owner == worker);
        owned.map(|(shard, _)| shard.clone()).collect()
    }

    /// Waits until `enough` is true of how many leases each worker owns.
    async fn until(
        &mut self,
        enough: impl Fn(&dyn Fn(&str) -> usize) -> bool + Send + Sync,
    ) -> Result<()> {
        let waiting = async {
            while !enough(&|worker| self.of(worker).len()) {
                sleep(LOOK).await;
                self.look().await;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .context("never seen in the lease table")
    }

    /// How many leases move while both work on. Fails if one of them reads what it does not own, or
    /// if another than we seems to say how busy it is.
    async fn still(&mut self, one: (&str, &mut Worker), two: (&str, &mut Worker)) -> Result<usize> {
        let from = Instant::now();
        let mut moved = 0;
        while from.elapsed() < STILL {
            sleep(LOOK).await;
            moved += self.look().await;
        }
        for (name, worker) in [one, two] {
            let lines = worker.lines_until(Instant::now()).await?;
            let told = lines.iter().filter(|line| line.at > from + NOTICED);
            let read: BTreeSet<_> = told
                .filter_map(|line| records(&line.text))
                .map(|(shard, _)| shard.to_owned())
                .collect();
            let owned = self.of(name);
            ensure!(
                moved > 0 || read == owned,
                "{name} owns {owned:?} and reads {read:?}"
            );
        }
        // What Java took from us still has the attribute, as we left it.
        for lease in self.table.scan().await?.leases {
            let (holder, busy) = (lease.holder().unwrap_or_default(), lease.busy());
            println!(
                "  {}: {holder} is busy {busy:?}, the row says {:?} ‰",
                lease.key, lease.busy_permille
            );
            ensure!(busy.is_some() == (holder == OURS), "{lease:?}");
        }
        Ok(moved)
    }
}
