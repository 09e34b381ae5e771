//! Probes the readable shards of one application: which of them now, how many at a time, how long.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kinesis_consumer::{Checkpoint, ShardId, lease::Lease};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    error::SourceErrorKind,
    source::{
        clock::Clock,
        failure::Failure,
        probe::{Next, Probe, Verdict},
        shards::{Peek, ReadError, Reads},
        snapshot::{ProbeSnapshot, Probes},
    },
};

/// Shards probed at a time.
const AT_A_TIME: usize = 16;

/// The probing of one fetch begins no more probes after this; a shard that was not asked by then
/// keeps its verdict, and is among the first of the next round.
const DEADLINE: Duration = Duration::from_secs(15);

/// Probes that have begun are given so much longer.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Iterators live for 5 minutes; nobody counts on the last of them.
const ITERATOR_LIVES: Duration = Duration::from_secs(240);

/// A quick fetch asks a shard again after this, however often it is asked for: the shard's readers
/// share 5 calls a second with us.
const AGAIN: Duration = Duration::from_millis(4_500);

/// The same for a shard without a verdict.
const AGAIN_UNDECIDED: Duration = Duration::from_millis(2_700);

/// The same for a shard in the middle of empty pages.
const AGAIN_UNDER_WAY: Duration = Duration::from_millis(900);

/// The readable shards, as far as they were probed.
#[derive(Debug)]
pub(super) struct Probing {
    clock: Clock,
    shards: HashMap<ShardId, ProbedShard>,
    counts: Probes,
    cut_short: bool,
}

/// A shard that a worker could read now.
#[derive(Debug)]
pub(super) struct Readable<'a> {
    pub(super) id: &'a ShardId,
    pub(super) lease: Option<&'a Lease>,
    /// Does a worker that lives hold the lease?
    pub(super) held: bool,
    /// Where it will be started, if it has no lease.
    pub(super) start: Option<&'a Checkpoint>,
    pub(super) closed: bool,
}

#[derive(Debug)]
struct ProbedShard {
    probe: Probe,
    /// The last attempt.
    tried: Option<Instant>,
    /// When the last page came.
    page: Option<Instant>,
    /// When the verdict was last known to hold.
    held: Option<Timestamp>,
    /// Should it have been asked since, and was not answered?
    missed: bool,
    /// How its probes fail since the last answer; throttling is no failure.
    failure: Option<Failure>,
}

type Outcome = Result<Peek, ReadError>;

/// A shard to be asked now. What to ask is told when its turn comes: shards of a thousand
/// applications may wait for theirs.
struct Due {
    id: ShardId,
    /// Is it one of those that go first, also among the shards of other applications?
    is_first: bool,
}

impl Probing {
    /// Of no shards yet.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            shards: HashMap::new(),
            counts: Probes::default(),
            cut_short: false,
        }
    }

    /// Goes on with these shards.
    pub(super) fn follow<'a>(&mut self, readable: impl Iterator<Item = Readable<'a>>) {
        let mut before = std::mem::take(&mut self.shards);
        for shard in readable {
            let Readable {
                id,
                lease,
                held,
                start,
                closed,
            } = shard;
            let mut shard = match before.remove(id) {
                Some(mut shard) => {
                    shard.probe.follow(lease, start, closed);
                    shard
                }
                None => ProbedShard {
                    probe: Probe::new(lease, start, closed),
                    tried: None,
                    page: None,
                    held: None,
                    missed: false,
                    failure: None,
                },
            };
            shard.probe.hold(held);
            self.shards.insert(id.clone(), shard);
        }
    }

    /// Asks what is worth asking, one page a shard.
    pub(super) async fn probe(&mut self, reads: &dyn Reads, quick: bool) {
        let aws_time = reads.time().await;
        let aws_time = aws_time.unwrap_or_else(|| self.clock.time_at(Instant::now()));
        let answers_some = self.shards.values().any(ProbedShard::is_answered);
        let due = self.due(quick, answers_some, aws_time);
        let end = Instant::now() + DEADLINE;
        let unasked = &AtomicBool::new(false);
        let (allowed, denied) = (&AtomicBool::new(answers_some), &AtomicBool::new(false));
        let shards = &Mutex::new(&mut self.shards);
        let mut answers = stream::iter(due)
            .map(|Due { id, is_first }| async move {
                let place = tokio::select! {
                    biased;
                    () = sleep_until(end) => {
                        unasked.store(true, Ordering::Relaxed);
                        return None;
                    }
                    place = reads.place(!is_first) => place,
                };
                // What is allowed on no shard need not be tried on all.
                if denied.load(Ordering::Relaxed) && !allowed.load(Ordering::Relaxed) {
                    return None;
                }
                let (probe, next) = {
                    let mut probe = lock(shards).get(&id)?.probe.clone();
                    let next = probe.ask(aws_time)?;
                    (probe, next)
                };
                let (probe, outcome) = ask(reads, id.as_str(), probe, next, aws_time).await;
                let failed = match &outcome {
                    Ok(_) => {
                        allowed.store(true, Ordering::Relaxed);
                        None
                    }
                    Err(ReadError::Failed(error)) => Some(error.kind),
                    Err(_) => None,
                };
                if failed == Some(SourceErrorKind::AccessDenied) {
                    denied.store(true, Ordering::Relaxed);
                }
                if let Some(place) = place {
                    place.ended(failed == Some(SourceErrorKind::Timeout));
                }
                Some((id, probe, outcome))
            })
            .buffer_unordered(AT_A_TIME);
        let end = end + LAST_ANSWERS;
        while let Ok(Some(answer)) = timeout_at(end, answers.next()).await {
            if let Some((id, probe, outcome)) = answer {
                count(&mut self.counts, &outcome);
                if let Some(shard) = lock(shards).get_mut(&id) {
                    shard.answered(probe, outcome, self.clock);
                }
            }
        }
        drop(answers);
        self.cut_short = unasked.load(Ordering::Relaxed);
    }

    /// What to ask, first those without a verdict, then the longest unasked: no shard is left out
    /// for ever when time runs out. One that was asked in vain waits its turn among the others, so
    /// that many of those hold nobody up.
    fn due(&mut self, quick: bool, answers_some: bool, aws_time: Timestamp) -> Vec<Due> {
        let now = self.clock.time_at(Instant::now());
        let mut due = Vec::new();
        for (id, shard) in &mut self.shards {
            if shard.page.is_some_and(|at| at.elapsed() > ITERATOR_LIVES) {
                shard.probe.forget_iterator();
            }
            let again = match shard.verdict() {
                Some(_) => AGAIN,
                None if shard.probe.is_under_way() => AGAIN_UNDER_WAY,
                None => AGAIN_UNDECIDED,
            };
            let is_early = shard.tried.is_some_and(|tried| tried.elapsed() < again);
            // Who is denied while others are answered is asked once a refresh, as those are.
            let waits = answers_some && shard.is_certain_to_fail();
            if quick && (is_early || waits) {
                continue;
            }
            if shard.probe.ask(aws_time).is_some() {
                shard.missed = true;
                let is_first = shard.verdict().is_none() && !shard.is_in_vain();
                let ask = Due {
                    id: id.clone(),
                    is_first,
                };
                due.push(((!is_first, shard.tried), ask));
            } else {
                shard.held = Some(now);
                shard.missed = false;
            }
        }
        due.sort_by_key(|(rank, _)| *rank);
        due.into_iter().map(|(_, ask)| ask).collect()
    }

    /// Shards without a verdict.
    pub(super) fn undecided(&self) -> usize {
        let undecided = |shard: &&ProbedShard| shard.verdict().is_none();
        self.shards.values().filter(undecided).count()
    }

    /// Did time run out before all were asked?
    pub(super) fn was_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Is one of them in the middle of empty pages?
    pub(super) fn is_under_way(&self) -> bool {
        self.shards.values().any(|shard| shard.probe.is_under_way())
    }

    /// The longest-standing failure of a shard.
    pub(super) fn failure(&self) -> Option<Failure> {
        let failures = self
            .shards
            .values()
            .filter_map(|shard| shard.failure.as_ref());
        failures.min_by_key(|failure| failure.since).cloned()
    }

    /// The outcomes so far.
    pub(super) fn counts(&self) -> Probes {
        self.counts
    }

    /// What is known of a shard.
    pub(super) fn snapshot(&self, id: &ShardId) -> Option<ProbeSnapshot> {
        let shard = self.shards.get(id)?;
        let is_old = shard.missed || shard.probe.is_stale();
        Some(ProbeSnapshot {
            verdict: shard.verdict().cloned(),
            about: shard.probe.about().cloned(),
            as_of: shard.held.filter(|_| is_old),
            counted_since: None,
            why: shard.probe.why(),
            asked: shard.page,
        })
    }
}

impl ProbedShard {
    /// The last verdict, unless the shard is certain not to be asked any more.
    fn verdict(&self) -> Option<&Verdict> {
        self.probe.verdict().filter(|_| !self.is_certain_to_fail())
    }

    fn is_certain_to_fail(&self) -> bool {
        self.failure.as_ref().is_some_and(Failure::is_certain)
    }

    /// Did the last attempt bring a page?
    fn is_answered(&self) -> bool {
        self.page.is_some() && self.page == self.tried
    }

    /// Did it bring none?
    fn is_in_vain(&self) -> bool {
        self.tried.is_some() && !self.is_answered()
    }

    fn answered(&mut self, probe: Probe, outcome: Outcome, clock: Clock) {
        let at = Instant::now();
        let now = clock.time_at(at);
        self.tried = Some(at);
        self.probe = probe;
        match outcome {
            Ok(peek) => {
                self.probe.answered(peek, now);
                self.page = Some(at);
                self.failure = None;
                if !self.probe.is_stale() {
                    self.held = Some(now);
                    self.missed = false;
                }
            }
            Err(ReadError::Failed(error)) => {
                self.failure = Some(Failure::after(self.failure.take(), *error));
            }
            // AWS answered: what failed before does no longer.
            Err(_) => self.failure = None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counts: &mut Probes, outcome: &Outcome) {
    let count = match outcome {
        Ok(Peek {
            record: Some(_), ..
        }) => &mut counts.record,
        Ok(Peek {
            next_iterator: None,
            ..
        }) => &mut counts.end,
        Ok(_) => &mut counts.empty,
        Err(ReadError::Throttled) => &mut counts.throttled,
        Err(_) => &mut counts.failed,
    };
    *count += 1;
}

/// One page: from the iterator at hand, or from the checkpoint, after its own record.
async fn ask(
    reads: &dyn Reads,
    shard: &str,
    mut probe: Probe,
    mut next: Next,
    aws_time: Timestamp,
) -> (Probe, Outcome) {
    loop {
        let iterator = match next {
            Next::At(iterator) => Ok(iterator),
            Next::From(from) => reads.iterator(shard, &from).await,
        };
        let error = match iterator {
            Ok(iterator) => {
                let mut answer = reads.peek(&iterator).await;
                match &mut answer {
                    Ok(peek) => {
                        if let Some(after) = probe.pass(peek) {
                            next = after;
                            continue;
                        }
                    }
                    Err(error) => probe.failed(error),
                }
                return (probe, answer);
            }
            Err(error) => error,
        };
        let again = probe.no_iterator(&error);
        match again.then(|| probe.ask(aws_time)).flatten() {
            Some(from_elsewhere) => next = from_elsewhere,
            None => return (probe, Err(error)),
        }
    }
}
