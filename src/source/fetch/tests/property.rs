//! Whatever the lineage, the leases and the records: what a fetch finds is what counting them says.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, test_runner::TestCaseResult};

use super::*;

/// Something that happens between two fetches. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Step {
    /// A record arrives in an open shard, so many places later.
    Put(u8, u64),
    Split(u8),
    Merge(u8, u8),
    /// The stream forgets a closed shard whose parents it has forgotten.
    Forget(u8),
    /// Somebody writes a lease, likely or not.
    Write(u8, Checkpoint, Row),
    /// Somebody deletes it.
    Delete(u8),
}

/// What else stands in a lease.
#[derive(Clone, Debug)]
struct Row {
    owner: Option<String>,
    parents: bool,
    latest_since: Option<u64>,
}

/// The truth: every shard there ever was, oldest first, every lease, every record.
#[derive(Debug, Default)]
struct Story {
    shards: Vec<Shard>,
    forgotten: BTreeSet<ShardId>,
    leases: BTreeMap<ShardId, Lease>,
    records: BTreeMap<ShardId, Vec<u64>>,
    tip: u64,
}

/// What is there after a checkpoint.
#[derive(Debug, PartialEq)]
enum Found {
    Unread(Timestamp),
    CaughtUp,
    Drained,
}

fn step() -> impl Strategy<Value = Step> {
    let checkpoint = prop_oneof![
        2 => Just(Checkpoint::TrimHorizon),
        1 => Just(Checkpoint::AtTimestamp),
        1 => Just(Checkpoint::Latest),
        4 => Just(Checkpoint::ShardEnd),
        4 => (0..120_u64).prop_map(at),
    ];
    let owner = option::of((0..3_u8).prop_map(|pod| format!("pod-{pod}")));
    let row = (
        owner,
        prop::bool::weighted(0.9),
        option::weighted(0.5, 0..120_u64),
    )
        .prop_map(|(owner, parents, latest_since)| Row {
            owner,
            parents,
            latest_since,
        });
    prop_oneof![
        4 => (any::<u8>(), 1..15_u64).prop_map(|(shard, later)| Step::Put(shard, later)),
        2 => any::<u8>().prop_map(Step::Split),
        1 => any::<(u8, u8)>().prop_map(|(one, other)| Step::Merge(one, other)),
        1 => any::<u8>().prop_map(Step::Forget),
        6 => (any::<u8>(), checkpoint, row).prop_map(|(shard, to, row)| Step::Write(shard, to, row)),
        1 => any::<u8>().prop_map(Step::Delete),
    ]
}

impl Story {
    fn add(&mut self, parents: &[ShardId]) {
        for shard in &mut self.shards {
            shard.closed |= parents.contains(&shard.id);
        }
        self.shards.push(Shard {
            id: format!("{:03}", self.shards.len()).into(),
            parents: parents.iter().cloned().collect(),
            hash_range: HashRange { start: 0, end: 1 },
            starting_sequence_number: number(0),
            closed: false,
        });
    }

    fn choose(&self, choice: u8, fits: impl Fn(&Shard) -> bool) -> Option<Shard> {
        let fitting: Vec<_> = self.shards.iter().filter(|shard| fits(shard)).collect();
        let count = fitting.len().max(1);
        fitting.get(usize::from(choice) % count).copied().cloned()
    }

    fn tell(&mut self, step: Step) {
        let is_open = |shard: &Shard| !shard.closed;
        match step {
            Step::Put(choice, later) => {
                let shard = self.choose(choice, is_open).unwrap();
                self.tip += later;
                self.records.entry(shard.id).or_default().push(self.tip);
            }
            Step::Split(choice) => {
                let parent = [self.choose(choice, is_open).unwrap().id];
                self.add(&parent);
                self.add(&parent);
            }
            Step::Merge(one, other) => {
                let one = self.choose(one, is_open).unwrap().id;
                let other = self.choose(other, |shard| !shard.closed && shard.id != one);
                if let Some(other) = other {
                    self.add(&[one, other.id]);
                }
            }
            Step::Forget(choice) => {
                let oldest = self.choose(choice, |shard| {
                    let orphan = shard.parents.iter().all(|it| self.forgotten.contains(it));
                    shard.closed && orphan && !self.forgotten.contains(&shard.id)
                });
                self.forgotten.extend(oldest.map(|shard| shard.id));
            }
            Step::Write(choice, checkpoint, row) => {
                let shard = self.choose(choice, |_| true).unwrap();
                let checkpoint = match checkpoint {
                    // Of an open shard that would be a stream made anew.
                    Checkpoint::ShardEnd if !shard.closed => Checkpoint::TrimHorizon,
                    checkpoint => checkpoint,
                };
                let is_latest = checkpoint == Checkpoint::Latest;
                let mut lease = Lease::new(shard.id.clone(), checkpoint);
                lease.owner = row.owner;
                lease.latest_since = row.latest_since.filter(|_| is_latest).map(time);
                if row.parents {
                    lease.parents = shard.parents;
                }
                self.leases.insert(shard.id, lease);
            }
            Step::Delete(choice) => {
                let shard = self.choose(choice, |_| true).unwrap();
                self.leases.remove(&shard.id);
            }
        }
    }

    fn show(&self, fake: &Fake) {
        let mut world = fake.world();
        world.shards = self.listed().cloned().collect();
        world.leases = Some(self.leases.values().cloned().collect());
        let records = self.records.iter();
        world.records = records
            .map(|(id, records)| (id.to_string(), records.clone()))
            .collect();
    }

    /// Are all shards forgotten that have a lease, and older ones not? Retention does not do so.
    fn seems_made_anew(&self) -> bool {
        let newest = self.leases.keys().max();
        let all_forgotten = self.leases.keys().all(|id| self.forgotten.contains(id));
        newest.is_some_and(|newest| all_forgotten && self.listed().any(|it| it.id < *newest))
    }

    fn listed(&self) -> impl Iterator<Item = &Shard> {
        let is_listed = |shard: &&Shard| !self.forgotten.contains(&shard.id);
        self.shards.iter().filter(is_listed)
    }

    fn listed_parents(&self, shard: &Shard) -> impl Iterator<Item = &Shard> {
        self.listed()
            .filter(|parent| shard.parents.contains(&parent.id))
    }

    fn is_at_its_end(&self, id: &ShardId) -> bool {
        let lease = self.leases.get(id);
        lease.is_some_and(|lease| lease.checkpoint == Checkpoint::ShardEnd)
    }

    /// Must it be read so that an open shard is read some day? A lease below it says that the
    /// application is past it.
    fn is_needed(&self, shard: &Shard) -> bool {
        let leads_on = |child: &Shard| {
            child.parents.contains(&shard.id)
                && !self.leases.contains_key(&child.id)
                && self.is_needed(child)
        };
        !shard.closed || self.listed().any(leads_on)
    }

    /// Would a worker that comes now give it a lease?
    fn gets_a_lease(&self, shard: &Shard) -> bool {
        let has_or_gets =
            |parent: &Shard| self.leases.contains_key(&parent.id) || self.gets_a_lease(parent);
        let is_over = |id: &ShardId| {
            self.is_at_its_end(id) || self.forgotten.contains(id) && self.leases.contains_key(id)
        };
        !self.leases.contains_key(&shard.id)
            && self.is_needed(shard)
            && (self.listed_parents(shard).next().is_none()
                || shard.parents.iter().any(is_over) && self.listed_parents(shard).all(has_or_gets))
    }

    fn is_readable(&self, shard: &Shard) -> bool {
        let Some(lease) = self.leases.get(&shard.id) else {
            return self.is_needed(shard)
                && self
                    .listed_parents(shard)
                    .all(|parent| self.is_at_its_end(&parent.id));
        };
        let holds_up = |parent: &Shard| {
            let is_work = self.leases.contains_key(&parent.id) || self.gets_a_lease(parent);
            lease.parents.contains(&parent.id) && is_work && !self.is_at_its_end(&parent.id)
        };
        lease.checkpoint != Checkpoint::ShardEnd && !self.listed().any(holds_up)
    }

    /// Without a lease, will it start at the tip? Where all others do, and no parent leads to it;
    /// no record is as late as AWS's clock.
    fn starts_at_the_tip(&self, shard: &Shard) -> bool {
        let mut leases = self.leases.values();
        let are_all_latest = leases.all(|lease| lease.checkpoint == Checkpoint::Latest);
        shard.parents.is_empty() && are_all_latest
    }

    fn found(&self, shard: &Shard) -> Found {
        let lease = self.leases.get(&shard.id);
        let is_unread = |place: &&u64| match lease.map(|lease| (&lease.checkpoint, lease)) {
            None if self.starts_at_the_tip(shard) => false,
            None | Some((Checkpoint::TrimHorizon | Checkpoint::AtTimestamp, _)) => true,
            Some((Checkpoint::At(read), _)) => {
                **place > read.sequence_number.as_str().parse::<u64>().unwrap()
            }
            Some((Checkpoint::Latest, lease)) => {
                lease.latest_since.is_some_and(|it| time(**place) >= it)
            }
            Some((Checkpoint::ShardEnd, _)) => false,
        };
        let records = self.records.get(&shard.id).into_iter().flatten();
        match records.filter(is_unread).min() {
            Some(oldest) => Found::Unread(time(*oldest)),
            None if shard.closed => Found::Drained,
            None => Found::CaughtUp,
        }
    }
}

/// What a fetch says of a shard. Whether its checkpoint has expired is `probe`'s business.
fn seen(application: &ApplicationSnapshot, id: &str) -> Option<Found> {
    verdict(application, id).map(|verdict| match verdict {
        Verdict::Unread { since, .. } => Found::Unread(since),
        Verdict::CaughtUp => Found::CaughtUp,
        Verdict::Drained => Found::Drained,
    })
}

fn agree(seen_now: &ApplicationSnapshot, story: &Story) -> TestCaseResult {
    let want: Vec<_> = story.listed().filter(|it| story.is_readable(it)).collect();
    let ids: Vec<_> = want.iter().map(|shard| shard.id.as_str()).collect();
    prop_assert_eq!(readable(seen_now), ids, "of {:#?}", story);
    prop_assert_eq!(seen_now.is_new(), story.leases.is_empty());
    if seen_now.is_new() {
        return Ok(());
    }
    for shard in &want {
        let found = story.found(shard);
        let text = format!("{} of {story:#?}", shard.id);
        prop_assert_eq!(seen(seen_now, shard.id.as_str()), Some(found), "{}", text);
    }
    prop_assert_eq!(seen_now.known_lag().map(|lag| lag.undecided), Some(0));
    let readable = seen_now.readable();
    let probed = readable.map(|shard| {
        let stale = shard
            .probe
            .as_ref()
            .is_some_and(|probe| probe.as_of.is_some());
        (
            shard.unread_since(),
            shard.verdict() == Some(&Verdict::Drained),
            stale,
        )
    });
    let counted = want.iter().map(|shard| match story.found(shard) {
        Found::Unread(since) => (Some(since), false, false),
        found => (None, found == Found::Drained, false),
    });
    prop_assert_eq!(probed.collect::<Vec<_>>(), counted.collect::<Vec<_>>());
    let all_read = want.iter().all(|it| story.found(it) == Found::CaughtUp);
    prop_assert_eq!(seen_now.is_idle(), all_read);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Memory from fetch to fetch is part of it: the same fetcher goes on while all of it changes.
    #[test]
    fn what_is_seen_is_what_counting_says(
        shards in 1..4_usize,
        horizon in 0..30_u64,
        page in 4..40_u64,
        life in vec(vec(step(), 0..14), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let fake = Fake::default();
        (fake.world().page, fake.world().horizon) = (Some(page), horizon);
        let mut fetcher = fake.fetcher();
        let mut story = Story { tip: horizon, ..Story::default() };
        (0..shards).for_each(|_| story.add(&[]));
        for steps in life {
            steps.into_iter().for_each(|step| story.tell(step));
            if story.seems_made_anew() {
                continue;
            }
            story.show(&fake);
            // Empty pages are followed a page a fetch.
            let looks = story.tip / page + 3;
            let mut last = None;
            for _ in 0..looks {
                last = Some(runtime.block_on(async {
                    advance(Duration::from_secs(15)).await;
                    fetch(&mut fetcher, LAG).await
                }));
            }
            agree(&last.unwrap(), &story)?;
        }
    }
}
