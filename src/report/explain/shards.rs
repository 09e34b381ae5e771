//! Every shard of an application with what is known of it, and why. Shards with the oldest unread
//! records come first.

use std::{cmp::Reverse, time::Duration};

use kinesis_consumer::{ShardId, shards::Readability};
use right_sizing::ShardView as DecidedShard;
use serde::Serialize;

use super::Now;
use crate::decision::answer::Answer;
use crate::error::Error;
use crate::source::{
    probe::Verdict,
    snapshot::{ApplicationSnapshot, ShardSnapshot, Table},
};

/// The work of an application on one stream.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationView {
    /// When shards and leases were read.
    pub read: String,
    /// The lease table, in a sentence.
    pub table: String,
    /// Rows of it that are broken: key, and what is wrong. Some of them.
    pub malformed: Vec<(String, String)>,
    /// Shards that the application can read now.
    pub readable: usize,
    /// Readable shards with unread records. `None`: lag is not measured.
    pub unread: Option<usize>,
    /// Readable shards without a verdict yet. `None`: lag is not measured.
    pub undecided: Option<usize>,
    /// The age of the oldest unread record.
    pub oldest_unread_ms: Option<u64>,
    /// The longest-standing failure of a probe, if there is one.
    pub failure: Option<String>,
    /// Every shard, the worst first.
    pub shards: Vec<ShardView>,
}

/// One shard.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardView {
    /// Its id.
    pub id: String,
    /// Does it take no more records?
    pub closed: bool,
    /// The shards that it was made of.
    pub parents: Vec<String>,
    /// What the shard is to the application.
    pub state: ShardState,
    /// What shows that, in words.
    pub why: String,
    /// The age of its oldest unread record.
    pub age_ms: Option<u64>,
    /// Its lease, where the table has one.
    pub lease: Option<LeaseView>,
    /// When its last page came.
    pub asked: Option<String>,
    /// Does the verdict stand in because later probes brought none?
    pub stale: bool,
    /// When a verdict that stands in was last known to hold, in milliseconds before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict_age_ms: Option<u64>,
    /// Seconds of position gained per second, while the shard is behind.
    pub progress: Option<f64>,
    /// Is it left out of the decision, because its checkpoint does not move?
    pub left_out: bool,
}

/// A shard's lease.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Who holds it.
    pub owner: Option<String>,
    /// Does the holder still renew it?
    pub live: bool,
    /// How far the application is.
    pub checkpoint: String,
    /// The share of its time that the holder works on it, 0 to 1, where the table says so.
    pub busy: Option<f64>,
}

/// What a shard is to the application, the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ShardState {
    /// A record is there after the checkpoint.
    Unread,
    /// Not known yet.
    Undecided,
    /// Closed and read; SHARD_END is yet to be written.
    Drained,
    /// A worker can read it now; lag is not measured.
    Readable,
    /// Nothing after the checkpoint.
    CaughtUp,
    /// A worker reads it only after its parents.
    Waits,
    /// At SHARD_END.
    Finished,
    /// The application does not want it.
    NotWanted,
}

impl ShardState {
    /// As the JSON and the style sheet name it, and in words.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Unread => ("unread", "unread"),
            Self::Undecided => ("undecided", "undecided"),
            Self::Drained => ("drained", "drained"),
            Self::Readable => ("readable", "readable"),
            Self::CaughtUp => ("caughtUp", "caught up"),
            Self::Waits => ("waits", "waits"),
            Self::Finished => ("finished", "finished"),
            Self::NotWanted => ("notWanted", "not wanted"),
        }
    }
}

/// What is known of an application, and what the answer says of its shards.
pub fn application(
    application: &ApplicationSnapshot,
    answer: &Result<Answer, Error>,
    now: &Now,
) -> ApplicationView {
    // By id, as `right_sizing` has them.
    let decision = answer.as_ref().ok().and_then(|it| it.decision.as_ref());
    let mut decided: Vec<_> = decision.iter().flat_map(|it| &it.shards).collect();
    decided.sort_by(|one, other| one.id.cmp(&other.id));
    let of = |id: &str| {
        let found = decided.binary_search_by(|it| it.id.as_str().cmp(id)).ok();
        found.map(|at| decided[at])
    };
    let mut shards: Vec<_> = application
        .shards
        .iter()
        .map(|shard| view(application, shard, of(shard.id.as_str()), now))
        .collect();
    shards.sort_by(|one, other| {
        let key = |it: &ShardView| (it.state, Reverse(it.age_ms));
        key(one)
            .cmp(&key(other))
            .then_with(|| one.id.cmp(&other.id))
    });
    let count = |state| shards.iter().filter(|shard| shard.state == state).count();
    let lag = application.lag.as_ref();
    let (table, malformed) = table(&application.table);
    ApplicationView {
        read: format!("{:.0}", now.time_of(application.at)),
        table,
        malformed,
        readable: application.readable().count(),
        unread: lag.map(|_| count(ShardState::Unread)),
        undecided: lag.map(|lag| lag.undecided),
        oldest_unread_ms: shards.iter().filter_map(|shard| shard.age_ms).max(),
        failure: lag.and_then(|lag| Some(lag.failure.as_ref()?.error.to_string())),
        shards,
    }
}

fn table(table: &Table) -> (String, Vec<(String, String)>) {
    match table {
        Table::Missing => ("no such table".to_owned(), Vec::new()),
        Table::Read {
            leases,
            unlisted,
            others,
            older,
            malformed,
        } => {
            let mut text = format!("{leases} leases of this stream");
            if *unlisted > 0 {
                text += &format!(", {unlisted} of them of shards that the stream has forgotten");
            }
            if *others > 0 {
                text += &format!("; {others} rows of other entities or streams");
            }
            if *older > 0 {
                text += &format!(", {older} of them leases of a stream that was made anew since");
            }
            (text, malformed.clone())
        }
    }
}

fn view(
    application: &ApplicationSnapshot,
    shard: &ShardSnapshot,
    decided: Option<&DecidedShard>,
    now: &Now,
) -> ShardView {
    let probe = shard.probe.as_ref();
    let (state, why) = match (&shard.readability, probe) {
        (Readability::Readable { .. }, Some(probe)) => {
            (state(shard.verdict()), probe.why.clone().into_owned())
        }
        (Readability::Readable { start }, None) => {
            (ShardState::Readable, can_be_read(start.as_ref()))
        }
        (Readability::Finished, _) => (ShardState::Finished, "at SHARD_END".to_owned()),
        (Readability::WaitsFor(parents), _) => {
            let parents: Vec<_> = parents.iter().map(ShardId::as_str).collect();
            let why = format!("only after {} is at SHARD_END", parents.join(" and "));
            (ShardState::Waits, why)
        }
        (Readability::NotWanted, _) => (
            ShardState::NotWanted,
            "no lease, and none to come: the application is past it".to_owned(),
        ),
    };
    let time = application.time_at(now.at);
    let age = |since| millis(application.age(since, time));
    let age_ms = shard.unread_since().map(age);
    let as_of = probe.and_then(|probe| probe.as_of);
    let lease = shard.lease.as_ref().map(|lease| LeaseView {
        owner: lease.owner.clone(),
        live: lease.live,
        checkpoint: lease.checkpoint.to_string(),
        busy: lease.busy,
    });
    ShardView {
        id: shard.id.to_string(),
        closed: shard.closed,
        parents: shard.parents.iter().map(ToString::to_string).collect(),
        state,
        why,
        age_ms,
        lease,
        asked: probe.and_then(|probe| Some(format!("{:.0}", now.time_of(probe.asked?)))),
        stale: as_of.is_some(),
        verdict_age_ms: as_of.map(|as_of| millis(time.duration_since(as_of).unsigned_abs())),
        progress: decided.and_then(|it| it.progress),
        left_out: decided.is_some_and(|it| it.left_out),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn state(verdict: Option<&Verdict>) -> ShardState {
    match verdict {
        None => ShardState::Undecided,
        Some(Verdict::Unread { .. }) => ShardState::Unread,
        Some(Verdict::CaughtUp) => ShardState::CaughtUp,
        Some(Verdict::Drained) => ShardState::Drained,
    }
}

fn can_be_read(start: Option<&kinesis_consumer::Checkpoint>) -> String {
    match start {
        None => "a worker can read it now".to_owned(),
        Some(start) => format!("it has no lease yet: a worker will make one, at {start}"),
    }
}
