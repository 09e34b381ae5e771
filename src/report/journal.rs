//! The answers that each ScaledObject got in the last hour, and why: the memory of `/explain`.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use right_sizing::Decision;
use tokio::time::Instant;
use tonic::Code;

use crate::{decision::answer::Answer, error::Error, trigger::Trigger};

/// The most triggers remembered of one ScaledObject: whoever reaches the port can ask for ever new
/// ones.
const MOST_TRIGGERS: usize = 20;

/// How long answers are remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Whoever did not ask for this long does not fail any more: it is gone, or asks another replica.
const ASKS: Duration = Duration::from_secs(300);

/// While something is unread, a decision's sentence changes with every refresh: one is remembered
/// so often.
const ANEW: Duration = Duration::from_secs(60);

/// The most answers remembered of one trigger. Only those that differ from the one before are.
const MOST_ANSWERS: usize = 240;

/// The ScaledObject that an RPC came for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Asker {
    /// Its namespace, as claimed.
    pub namespace: String,
    /// Its name, shortened.
    pub name: String,
}

/// The answers of all ScaledObjects.
#[derive(Debug)]
pub struct Journal {
    /// The most answers remembered, of all together.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Asker, Vec<Entry>>,
    answers: usize,
}

/// One trigger of a ScaledObject.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it asks for: the keys that we know, parsed.
    pub trigger: Trigger,
    /// When it last asked.
    pub asked: Instant,
    /// Its answers, oldest first. Equal answers in a row are one, from the first of them on.
    pub answers: VecDeque<Answered>,
}

/// An answer, or why there was none.
#[derive(Clone, Debug)]
pub struct Answered {
    /// When it was first given.
    pub at: Instant,
    /// The answer. A decision in it has no shards.
    pub answer: Result<Answer, Error>,
    /// The age of the oldest unread record then, in milliseconds, where lag was measured.
    pub oldest_ms: Option<u64>,
}

impl Journal {
    /// Empty, for so many answers.
    pub fn new(answers: usize) -> Self {
        Self {
            most: answers,
            kept: Mutex::default(),
        }
    }

    /// Notes the answer that a trigger got.
    pub fn note(&self, asker: &Asker, trigger: &Trigger, answer: &Result<Answer, Error>) {
        let now = Instant::now();
        let mut kept = self.kept();
        let kept = &mut *kept;
        let its = kept.entries.entry(asker.clone()).or_default();
        kept.answers -= answers(its);
        its.retain(Entry::is_of_late);
        let entry = match its.iter_mut().find(|entry| entry.trigger == *trigger) {
            Some(entry) => entry,
            None => {
                if its.len() >= MOST_TRIGGERS {
                    let longest_unasked = (0..its.len()).min_by_key(|n| its[*n].asked);
                    longest_unasked.map(|n| its.swap_remove(n));
                }
                its.push(Entry {
                    trigger: trigger.clone(),
                    asked: now,
                    answers: VecDeque::new(),
                });
                its.last_mut().expect("one was pushed")
            }
        };
        entry.asked = now;
        entry.note(now, answer);
        kept.answers += answers(its);
        while kept.answers > self.most {
            kept.make_room();
        }
    }

    /// The triggers of every ScaledObject that asked lately, each with its last answer only, by
    /// namespace and name.
    pub fn latest(&self) -> Vec<(Asker, Vec<Entry>)> {
        let kept = self.kept();
        let last = |entry: &Entry| Entry {
            trigger: entry.trigger.clone(),
            asked: entry.asked,
            answers: entry.answers.back().cloned().into_iter().collect(),
        };
        let mut all: Vec<_> = kept
            .entries
            .iter()
            .map(|(asker, its)| {
                let lately = its.iter().filter(|entry| entry.is_of_late());
                (asker.clone(), lately.map(last).collect::<Vec<_>>())
            })
            .filter(|(_, lately)| !lately.is_empty())
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// How many ScaledObjects asked lately and got an error for their last answer, and `most` of
    /// them with the error's code: first those that fail by no fault of their author, then who
    /// asked last. Names that somebody makes up hide none of the former.
    pub fn failing(&self, most: usize) -> (usize, Vec<(Asker, Code)>) {
        let kept = self.kept();
        let code = |entry: &Entry| {
            let last = entry.answers.back()?.answer.as_ref();
            let code = last.err().map(Error::code)?;
            (entry.asked.elapsed() < ASKS).then_some((code, entry.asked))
        };
        let failing = kept.entries.iter().filter_map(|(asker, its)| {
            let (code, asked) = its.iter().find_map(code)?;
            Some((asker, code, asked))
        });
        let mut failing: Vec<_> = failing.collect();
        let count = failing.len();
        failing.sort_by_key(|(asker, code, asked)| (is_authors(*code), Reverse(*asked), *asker));
        failing.truncate(most);
        let failing = failing.into_iter();
        let named = failing.map(|(asker, code, _)| (asker.clone(), code));
        (count, named.collect())
    }

    /// The triggers of one ScaledObject with all their answers. Empty: it did not ask lately.
    pub fn entries_of(&self, asker: &Asker) -> Vec<Entry> {
        let kept = self.kept();
        let its = kept.entries.get(asker).map_or(&[][..], Vec::as_slice);
        let lately = its.iter().filter(|entry| entry.is_of_late());
        lately.cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The namespace with the most answers gives up the older half of those of its ScaledObject
    /// that has the most; where each has one, the one that did not ask for the longest time goes.
    fn make_room(&mut self) {
        let mut namespaces = HashMap::<_, usize>::new();
        for (asker, its) in &self.entries {
            *namespaces.entry(&asker.namespace).or_default() += answers(its);
        }
        let largest = namespaces.into_iter().max_by_key(|(_, answers)| *answers);
        let of_largest = |(asker, _): &(&Asker, &Vec<Entry>)| {
            largest.is_some_and(|(namespace, _)| asker.namespace == *namespace)
        };
        let its = self.entries.iter().filter(of_largest);
        let most = its.max_by_key(|(_, its)| (answers(its), Reverse(last_asked(its))));
        let Some(asker) = most.map(|(asker, _)| asker.clone()) else {
            return;
        };
        let its = self.entries.get_mut(&asker).map(|its| {
            let before = answers(its);
            for entry in its.iter_mut() {
                entry.answers.drain(..entry.answers.len() / 2);
            }
            if answers(its) == before {
                its.clear();
            }
            self.answers -= before - answers(its);
            its.is_empty()
        });
        if its == Some(true) {
            self.entries.remove(&asker);
        }
    }
}

impl Entry {
    fn is_of_late(&self) -> bool {
        self.asked.elapsed() < REMEMBERED
    }

    fn note(&mut self, now: Instant, answer: &Result<Answer, Error>) {
        let next = Answered::now(now, answer);
        if self.answers.back().is_some_and(|last| last.is_same(&next)) {
            return;
        }
        // The one that held an hour ago stays: without it the hour would begin with a gap.
        while self.answers.len() >= MOST_ANSWERS
            || self
                .answers
                .get(1)
                .is_some_and(|second| second.at + REMEMBERED < now)
        {
            self.answers.pop_front();
        }
        self.answers.push_back(next);
    }
}

impl Answered {
    fn now(at: Instant, answer: &Result<Answer, Error>) -> Self {
        let mut answer = answer.clone();
        let decision = answer.as_mut().ok().and_then(|it| it.decision.as_mut());
        let mut oldest_ms = None;
        if let Some(decision) = decision {
            oldest_ms = decision.shards.iter().filter_map(|it| it.age_ms).max();
            // There may be thousands of shards, and many answers an hour.
            let mut without_shards = Decision::clone(decision);
            without_shards.shards = Vec::new();
            *decision = Arc::new(without_shards);
        }
        Self {
            at,
            answer,
            oldest_ms,
        }
    }

    /// Would KEDA and a reader of `/explain` see no difference?
    fn is_same(&self, next: &Self) -> bool {
        let key = |answer: &Answer| {
            let running = answer.decision.as_ref().map(|it| it.running);
            (answer.value, answer.active, running)
        };
        match (&self.answer, &next.answer) {
            (Ok(one), Ok(other)) => {
                // While something is unread, a decision's sentence changes with every age in it.
                let is_quiet = self.oldest_ms.is_none() && next.oldest_ms.is_none();
                let says_the_same = is_quiet && one.reason == other.reason;
                let is_soon = next.at.saturating_duration_since(self.at) < ANEW;
                key(one) == key(other) && (says_the_same || is_soon)
            }
            (Err(one), Err(other)) => one.to_string() == other.to_string(),
            _ => false,
        }
    }
}

/// Can the ScaledObject's author mend it, or cause it? The chart's alerts ask the same.
fn is_authors(code: Code) -> bool {
    let others = [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Unauthenticated,
    ];
    !others.contains(&code)
}

fn answers(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.answers.len()).sum()
}

fn last_asked(entries: &[Entry]) -> Option<Instant> {
    entries.iter().map(|entry| entry.asked).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(shard_count: usize) -> Trigger {
        let pairs = [
            ("streamName", "orders".to_owned()),
            ("awsRegion", "eu-west-1".to_owned()),
            ("shardCount", shard_count.to_string()),
        ];
        let metadata = pairs.map(|(key, value)| (key.to_owned(), value));
        Trigger::parse(&metadata.into(), None).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn of_ever_new_triggers_the_latest_are_remembered() {
        let journal = Journal::new(50_000);
        let asker = Asker {
            namespace: "shop".to_owned(),
            name: "billing".to_owned(),
        };
        for shard_count in 1..=10 * MOST_TRIGGERS {
            let answer = Err(Error::NotYet("AWS has not been asked yet".to_owned()));
            journal.note(&asker, &trigger(shard_count), &answer);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let entries = journal.entries_of(&asker);
        assert_eq!(entries.len(), MOST_TRIGGERS);
        let oldest = entries.iter().map(|entry| entry.trigger.shard_count).min();
        assert_eq!(oldest, Some(9 * MOST_TRIGGERS as i64 + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_journal_is_bounded_as_a_whole_and_the_greediest_namespace_makes_room() {
        const MOST: usize = 100;
        let journal = Journal::new(MOST);
        let answer = Err(Error::NotYet("AWS has not been asked yet".to_owned()));
        let note = |namespace: &str, name: usize, shard_count: usize| {
            let asker = Asker {
                namespace: namespace.to_owned(),
                name: name.to_string(),
            };
            journal.note(&asker, &trigger(shard_count), &answer);
            let total: usize = journal
                .kept()
                .entries
                .values()
                .map(|its| answers(its))
                .sum();
            assert_eq!(journal.kept().answers, total);
            assert!(total <= MOST, "{total} answers");
        };
        note("modest", 0, 1);
        for name in 0..10 * MOST {
            note("greedy", name, name % 7 + 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let latest = journal.latest();
        assert_eq!(latest.len(), MOST, "as many as there is room for");
        let kept = |asker: &&Asker| asker.namespace == "modest" || asker.name == "999";
        let askers = latest.iter().map(|(asker, _)| asker);
        assert_eq!(
            askers.filter(kept).count(),
            2,
            "the latest, and the modest one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_names_hide_no_scaled_object_that_fails_by_no_fault_of_its_author() {
        let journal = Journal::new(50_000);
        let note = |name: &str, answer: Error| {
            let asker = Asker {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
            };
            journal.note(&asker, &trigger(1), &Err(answer));
        };
        note(
            "orders",
            Error::NotYet("AWS has not been asked yet".to_owned()),
        );
        for number in 0..10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            note(&format!("aaa{number}"), Error::InvalidMetadata(Vec::new()));
        }
        let (count, named) = journal.failing(3);
        assert_eq!(count, 11);
        let names: Vec<_> = named.iter().map(|(asker, _)| &*asker.name).collect();
        assert_eq!(names, ["orders", "aaa9", "aaa8"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_as_it_is_is_remembered_once_and_what_is_unread_once_a_minute() {
        let journal = Journal::new(50_000);
        let asker = Asker {
            namespace: "shop".to_owned(),
            name: "billing".to_owned(),
        };
        let (trigger, times) = (trigger(1), 120);
        let answer = |reason: String| Answer {
            value: 3,
            active: true,
            reason,
            decision: None,
        };
        let mut kept = Vec::new();
        for changes in [false, true] {
            for time in 0..times {
                let number = if changes { time } else { 0 };
                let answer = Ok(answer(format!("the oldest is {number} s old")));
                journal.note(&asker, &trigger, &answer);
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            kept.push(journal.entries_of(&asker)[0].answers.len());
        }
        assert_eq!(kept, [1, 3]);
    }
}
