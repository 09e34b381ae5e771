//! The answers that each ScaledObject got in the last hour, and why: the memory of `/explain`.

mod room;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use right_sizing::Decision;
use tokio::time::Instant;
use tonic::Code;
use url::form_urlencoded;

use self::room::{Key, Room};
use crate::{
    decision::answer::Answer,
    error::Error,
    trigger::{Trigger, tenant::Tenant},
};

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

impl Asker {
    /// A query that names it, as of `/explain`.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("namespace", &self.namespace);
        query.append_pair("name", &self.name).finish()
    }

    /// What a query names.
    pub fn of_query(query: &str) -> Option<Self> {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let mut pairs = pairs.collect::<HashMap<_, _>>();
        Some(Self {
            namespace: pairs.remove("namespace")?.into_owned(),
            name: pairs.remove("name")?.into_owned(),
        })
    }
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
    /// By ScaledObject, then by who asks for it.
    entries: BTreeMap<Arc<Key>, Vec<Entry>>,
    room: Room,
    /// When the last ScaledObject was forgotten to make room.
    forgot: Option<Instant>,
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

    /// Notes the answer that a trigger got, of a ScaledObject of that name.
    pub fn note(
        &self,
        tenant: &Tenant,
        name: &str,
        trigger: &Trigger,
        answer: &Result<Answer, Error>,
    ) {
        let now = Instant::now();
        let answered = Answered::now(now, answer);
        let key = Arc::new(Key::new(tenant, name));
        let mut kept = self.kept();
        let kept = &mut *kept;
        let its = kept.entries.entry(Arc::clone(&key)).or_default();
        let before = size(its);
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
        entry.note(answered);
        kept.room.changed(&key, before, size(its));
        while kept.room.answers() > self.most {
            kept.make_room();
        }
    }

    /// The triggers of ScaledObjects that asked lately, each with its last answer only, by
    /// namespace and name: so many at the most, those that come after one, and whether there are
    /// more.
    pub fn latest(&self, after: Option<&Asker>, most: usize) -> (Vec<(Asker, Vec<Entry>)>, bool) {
        let last = |entry: &Entry| Entry {
            trigger: entry.trigger.clone(),
            asked: entry.asked,
            answers: entry.answers.back().cloned().into_iter().collect(),
        };
        let kept = self.kept();
        let mut all = kept
            .scaled_objects(after)
            .filter(|(_, lately)| !lately.is_empty());
        let page = all.by_ref().take(most);
        let page =
            page.map(|(key, its)| (key.asker().clone(), its.into_iter().map(last).collect()));
        let page = page.collect();
        (page, all.next().is_some())
    }

    /// How many ScaledObjects asked lately and got an error for their last answer, and `most` of
    /// them with the error's code: first those that fail by no fault of their author, of each peer
    /// and of each namespace in turn, then who asked last. Names that somebody makes up hide none
    /// of the others. Who has what it may of this scaler does not fail: it was refused.
    pub fn failing(&self, most: usize) -> (usize, Vec<(Asker, Code)>) {
        let mut failing: Vec<_> = self.kept().failing().collect();
        let count = failing.len();
        let order = |it: &Failing, turn: usize| (is_authors(it.code), turn, Reverse(it.asked));
        failing.sort_unstable_by_key(|it| order(it, 0));
        let mut turns = HashMap::<_, usize>::new();
        for it in &mut failing {
            it.turn = next(turns.entry((it.key.peer(), &it.key.asker().namespace)));
        }
        drop(turns);
        failing.sort_unstable_by_key(|it| order(it, it.turn));
        let mut turns = HashMap::<_, usize>::new();
        for it in &mut failing {
            it.turn = next(turns.entry(it.key.peer()));
        }
        drop(turns);
        failing.sort_unstable_by_key(|it| order(it, it.turn));
        failing.truncate(most);
        let named = failing.iter().map(|it| (it.key.asker().clone(), it.code));
        (count, named.collect())
    }

    /// The triggers of one ScaledObject with all their answers, whoever asked. Empty: it did not
    /// ask lately, or [is forgotten](Self::forgot_lately).
    pub fn entries_of(&self, asker: &Asker) -> Vec<Entry> {
        let kept = self.kept();
        let mut all = Vec::<Entry>::new();
        for entry in kept.of(asker).filter(|entry| entry.is_of_late()) {
            match all.iter_mut().find(|it| it.trigger == entry.trigger) {
                Some(same) => same.merge(entry),
                None => all.push(entry.clone()),
            }
        }
        all
    }

    /// Within the last hour, was a ScaledObject forgotten to make room for others?
    pub fn forgot_lately(&self) -> bool {
        let forgot = self.kept().forgot;
        forgot.is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ScaledObject that got an error last.
struct Failing {
    key: Arc<Key>,
    code: Code,
    asked: Instant,
    turn: usize,
}

impl Kept {
    /// The peer with the most answers, of it the namespace with the most, and of that the
    /// ScaledObject with the most gives up the older half; where each has one, the one that did not
    /// ask for the longest time goes.
    fn make_room(&mut self) {
        let Some(key) = self.room.gives_up() else {
            return;
        };
        let Some(its) = self.entries.get_mut(&key) else {
            return;
        };
        let before = size(its);
        for entry in its.iter_mut() {
            entry.answers.drain(..entry.answers.len() / 2);
        }
        if size(its) == before {
            its.clear();
        }
        self.room.changed(&key, before, size(its));
        if its.is_empty() {
            self.entries.remove(&key);
            self.forgot = Some(Instant::now());
        }
    }

    fn of(&self, asker: &Asker) -> impl Iterator<Item = &Entry> {
        let from = self.entries.range(Key::first_of(asker)..);
        from.take_while(move |(key, _)| key.asker() == asker)
            .flat_map(|(_, its)| its)
    }

    /// Every ScaledObject after one, with what was asked for it lately; the last to ask speaks for
    /// all that ask for the same.
    fn scaled_objects(
        &self,
        after: Option<&Asker>,
    ) -> impl Iterator<Item = (&Arc<Key>, Vec<&Entry>)> {
        let from = after.map_or(Bound::Unbounded, |it| Bound::Included(Key::first_of(it)));
        let entries = self.entries.range((from, Bound::Unbounded));
        let mut entries = entries
            .skip_while(move |(key, _)| after == Some(key.asker()))
            .peekable();
        std::iter::from_fn(move || {
            let (key, its) = entries.next()?;
            let mut lately = Vec::new();
            newest(&mut lately, its);
            while let Some((_, its)) = entries.next_if(|(it, _)| it.asker() == key.asker()) {
                newest(&mut lately, its);
            }
            Some((key, lately))
        })
    }

    fn failing(&self) -> impl Iterator<Item = Failing> {
        let failed = |entry: &Entry| {
            let error = entry.answers.back()?.answer.as_ref().err()?;
            let counts = entry.asked.elapsed() < ASKS && !matches!(error, Error::Exhausted { .. });
            counts.then(|| (error.code(), entry.asked))
        };
        self.scaled_objects(None).filter_map(move |(key, its)| {
            let (code, asked) = its.into_iter().find_map(failed)?;
            Some(Failing {
                key: Arc::clone(key),
                code,
                asked,
                turn: 0,
            })
        })
    }
}

/// Adds what was asked for lately; of the same trigger the one asked for last stays.
fn newest<'a>(lately: &mut Vec<&'a Entry>, its: &'a [Entry]) {
    for entry in its.iter().filter(|entry| entry.is_of_late()) {
        match lately.iter_mut().find(|it| it.trigger == entry.trigger) {
            Some(same) if same.asked < entry.asked => *same = entry,
            Some(_) => {}
            None => lately.push(entry),
        }
    }
}

/// Counts one more: how many there were.
fn next<K: Eq + std::hash::Hash>(count: std::collections::hash_map::Entry<'_, K, usize>) -> usize {
    let count = count.or_default();
    *count += 1;
    *count - 1
}

impl Entry {
    fn is_of_late(&self) -> bool {
        self.asked.elapsed() < REMEMBERED
    }

    fn note(&mut self, next: Answered) {
        if self.answers.back().is_some_and(|last| last.is_same(&next)) {
            return;
        }
        // The one that held an hour ago stays: without it the hour would begin with a gap.
        while self.answers.len() >= MOST_ANSWERS
            || self
                .answers
                .get(1)
                .is_some_and(|second| second.at + REMEMBERED < next.at)
        {
            self.answers.pop_front();
        }
        self.answers.push_back(next);
    }

    /// Adds what another asker was answered.
    fn merge(&mut self, other: &Self) {
        self.asked = self.asked.max(other.asked);
        let mut all: Vec<_> = self
            .answers
            .drain(..)
            .chain(other.answers.iter().cloned())
            .collect();
        all.sort_by_key(|answered| answered.at);
        all.dedup_by(|next, last| last.is_same(next));
        self.answers = all.into();
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

/// How many answers, and when somebody asked last.
fn size(entries: &[Entry]) -> room::Size {
    room::Size {
        answers: entries.iter().map(|entry| entry.answers.len()).sum(),
        asked: entries.iter().map(|entry| entry.asked).max(),
    }
}
