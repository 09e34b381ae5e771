//! What KEDA gets for a trigger: pure functions of the trigger and of what is known of its source.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::Checkpoint;
use right_sizing::{Decision, Unknown};

use super::{
    memories::{self, Decisions},
    observation::observe,
};
use crate::{
    error::Error,
    source::snapshot::{ApplicationSnapshot, Lag, ShardSnapshot, StreamSnapshot, Table},
    trigger::{Measure, OnMissingTable, Stream, StreamSource, Work},
};

#[cfg(test)]
mod tests;

/// A replica that was asked for makes its lease table and leases within this time; if not, the
/// trigger most likely names another table than the replica makes.
const LEASES_ARE_MADE_WITHIN: Duration = Duration::from_secs(600);

/// Value and activity, from one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The metric's value, a number of shards.
    pub value: i64,
    /// May KEDA scale from zero, and does the cooldown start anew?
    pub active: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// How lag was turned into replicas.
    pub decision: Option<Arc<Decision>>,
}

/// An application's trigger, and what bears on its answer beside the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The stream.
    pub stream: &'a StreamSource,
    /// The application's work, and how it is measured.
    pub work: &'a Work,
    /// The target: shards per replica.
    pub shard_count: i64,
    /// How long verdicts on shards may stand in while probes fail.
    pub max_stale: Duration,
}

/// The answer for a stream's open shards.
pub fn answer_open_shards(snapshot: &StreamSnapshot, activation: i64) -> Answer {
    answer_count(snapshot.open_shards, activation, "open shards")
}

/// The answer for an application's work. With settings that `decisions` lack it is the first
/// decision of a memory that begins with this snapshot.
///
/// # Errors
/// The snapshot does not say it: never a made-up zero, and of a part of the shards a lower bound
/// that holds what runs at most.
pub fn answer_application(
    question: &Question<'_>,
    snapshot: &ApplicationSnapshot,
    decisions: &Decisions,
) -> Result<Answer, Error> {
    if snapshot.is_new() {
        return question.answer_without_leases(snapshot, decisions);
    }
    let Question { work, .. } = question;
    let activation = match work.measure {
        Measure::ReadableShards { activation } => activation,
        Measure::Lag { .. } => return question.answer_lag(snapshot, decisions),
    };
    let count = snapshot.readable_count();
    Ok(answer_count(count, activation, "readable shards"))
}

fn answer_count(value: i64, activation: i64, what: &str) -> Answer {
    let active = value > activation;
    let compared = if active { "more than" } else { "not more than" };
    Answer {
        value,
        active,
        reason: format!("{value} {what}, {compared} activationShardCount {activation}"),
        decision: None,
    }
}

impl Question<'_> {
    /// `before`: decisions on the leases that were there, where there were any: what ran then makes
    /// them again.
    fn answer_without_leases(
        &self,
        snapshot: &ApplicationSnapshot,
        before: &Decisions,
    ) -> Result<Answer, Error> {
        let Self { work, stream, .. } = self;
        let before = memories::settings_of_work(work, self.shard_count)
            .and_then(|settings| before.get(&settings))
            .map_or(0, |decision| i64::from(decision.replicas));
        let place = work.table.place();
        let found = match snapshot.table {
            Table::Missing => format!("there is no lease table {place}"),
            Table::Read { .. } => {
                let what = match &stream.stream {
                    Stream::All => "that names its stream".to_owned(),
                    one => format!("of {one}"),
                };
                format!("the lease table {place} has no lease {what}")
            }
        };
        let since = snapshot.no_leases_since;
        let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
        let answer = |replicas: i64, active, word| Answer {
            value: self.shard_count.saturating_mul(replicas),
            active,
            reason: format!("{found}: {word}, as onMissingTable says"),
            decision: None,
        };
        match work.on_missing_table {
            OnMissingTable::Activate if waited > LEASES_ARE_MADE_WITHIN => {
                Err(Error::NoLeases(self.misspelt(&found, waited)))
            }
            OnMissingTable::Activate if before > 1 => {
                Ok(answer(before, true, "as many replicas as before make them"))
            }
            OnMissingTable::Activate => Ok(answer(1, true, "one replica, which makes them")),
            OnMissingTable::Idle => Ok(answer(0, false, "idle")),
            OnMissingTable::Error => Err(Error::NoLeases(format!(
                "{found}: correct {}, or leaseTableRegion and leaseTableRoleArn where the table is elsewhere than the \
                 stream; for an application that has yet to make it: start it once, or set onMissingTable to activate or \
                 idle",
                self.keys_of_the_table()
            ))),
        }
    }

    /// A replica was asked for, and made no table, or no lease in it.
    fn misspelt(&self, found: &str, waited: Duration) -> String {
        let Work {
            table, table_key, ..
        } = self.work;
        format!(
            "{found}, although a replica that makes it is asked for since {} min: most likely {table_key} {:?} is not as \
             the application's consumers have it, so correct {}; or they make it elsewhere (leaseTableRegion, \
             leaseTableRoleArn), or do not start: see their pods and logs",
            waited.as_secs() / 60,
            table.as_asked(),
            self.keys_of_the_table()
        )
    }

    fn keys_of_the_table(&self) -> &'static str {
        match self.work.table_key {
            "applicationName" => "applicationName (or leaseTable)",
            key => key,
        }
    }

    fn answer_lag(
        &self,
        snapshot: &ApplicationSnapshot,
        decisions: &Decisions,
    ) -> Result<Answer, Error> {
        let stream = &self.stream.stream;
        let Some(lag) = &snapshot.lag else {
            return Err(Error::NotYet(format!(
                "{stream} is being asked what {} still has to read: ask again",
                self.work.table.as_asked()
            )));
        };
        if snapshot.is_first_look {
            return Err(Error::NotYet(format!(
                "{} was looked at once, which does not tell who of its owners lives: ask again in a few seconds",
                self.work.table.name
            )));
        }
        if let Some(unknown) = decisions.unknown() {
            return Err(self.unknown(unknown, snapshot, lag));
        }
        let Some(settings) = memories::settings_of_work(self.work, self.shard_count) else {
            return Err(Error::NotYet("lag is not measured".to_owned()));
        };
        let decision = match decisions.get(&settings) {
            Some(decision) => Arc::clone(decision),
            None => match observe(snapshot, self.max_stale) {
                Some(Ok(observation)) => memories::decide_first(settings, &observation),
                Some(Err(unknown)) => return Err(self.unknown(unknown, snapshot, lag)),
                None => return Err(Error::NotYet(format!("{stream} is being asked: ask again"))),
            },
        };
        let latest = lag.latest.map_or_else(String::new, |(shards, since)| {
            format!("; {shards} at LATEST without a checkpoint: known since {since:.0}")
        });
        let to_come = self.yet_to_come(snapshot, lag).unwrap_or_default();
        Ok(Answer {
            value: self
                .shard_count
                .saturating_mul(i64::from(decision.replicas)),
            active: decision.active,
            reason: format!("{}{latest}{to_come}", decision.reason),
            decision: Some(decision),
        })
    }

    /// What an `initialTimestamp` leaves out that is still to come: all there is.
    fn yet_to_come(&self, snapshot: &ApplicationSnapshot, lag: &Lag) -> Option<String> {
        let since = self.work.initial_timestamp?;
        let ahead = snapshot.aws_ahead.unwrap_or_default();
        let is_concerned = |shard: &&ShardSnapshot| {
            let lease = shard.lease.as_ref();
            lease.is_some_and(|lease| lease.checkpoint == Checkpoint::AtTimestamp)
        };
        let shards = snapshot.readable().filter(is_concerned).count();
        (shards > 0 && since > lag.time + ahead).then(|| {
            format!("; {shards} at AT_TIMESTAMP: nothing counts before initialTimestamp {since:.0}, which is still to come")
        })
    }

    /// Why nothing can be said: what probes failed with, else what is not known.
    fn unknown(&self, unknown: Unknown, snapshot: &ApplicationSnapshot, lag: &Lag) -> Error {
        if let Some(failure) = &lag.failure {
            return Error::Source(Arc::clone(&failure.error));
        }
        let stream = &self.stream.stream;
        let first = snapshot.readable().find(|shard| shard.verdict().is_none());
        let first = first.map_or_else(String::new, |shard| {
            let why = shard.probe.as_ref().map_or("not asked yet", |it| &it.why);
            format!(" ({}: {why})", shard.id)
        });
        Error::NotYet(format!(
            "{stream}: {unknown}{first}; they are being asked: ask again"
        ))
    }
}
