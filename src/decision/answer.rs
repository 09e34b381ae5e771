//! What KEDA is told of a trigger: a pure function of the trigger and what was last seen of its source.

use std::{sync::Arc, time::Duration};

use right_sizing::{Decision, Settings};

use crate::{
    error::Error,
    source::snapshot::{Application, Lag, LagFailure, ShardSnapshot, Snapshot, Table},
    trigger::{OnMissingTable, ScaleOn, Source, Trigger},
};

/// Value and activity, from one look.
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

/// What KEDA is told. `max_stale`: how long what is known of lag may stand in while shards cannot be looked into.
///
/// # Errors
/// What was seen does not say it for certain: never a partial count, never a made-up zero.
pub fn answer(
    trigger: &Trigger,
    snapshot: &Snapshot,
    max_stale: Duration,
) -> Result<Answer, Error> {
    match (trigger.scale_on, snapshot) {
        (ScaleOn::OpenShards { activation }, Snapshot::OpenShards(count)) => {
            Ok(counted(*count, activation, "open shards"))
        }
        (
            ScaleOn::ReadableShards {
                activation,
                on_missing_table,
            },
            Snapshot::Application(application),
        ) => {
            if application.is_new() {
                return of_a_new_one(trigger, application, on_missing_table);
            }
            let (what, count) = snapshot.headline();
            Ok(counted(count, activation, what))
        }
        (
            ScaleOn::Lag {
                on_missing_table, ..
            },
            Snapshot::Application(application),
        ) => {
            if application.is_new() {
                return of_a_new_one(trigger, application, on_missing_table);
            }
            let Some(lag) = &application.lag else {
                return Err(Error::NotYet(format!(
                    "{} is being asked what {} still has to read: ask again",
                    trigger.source.stream,
                    table(&trigger.source)
                )));
            };
            of_lag(trigger, application, lag, max_stale)
        }
        // A source is with or without a lease table as its trigger is.
        (_, Snapshot::OpenShards(_) | Snapshot::Application(_)) => Err(Error::NotYet(
            "the source is being asked: ask again".to_owned(),
        )),
    }
}

/// The settings that a trigger decides lag with.
pub fn settings(trigger: &Trigger) -> Option<Settings> {
    let ScaleOn::Lag {
        threshold,
        activation,
        ..
    } = trigger.scale_on
    else {
        return None;
    };
    Some(Settings {
        lag_threshold_ms: millis(threshold),
        shard_count: u32::try_from(trigger.shard_count).unwrap_or(u32::MAX),
        activation_lag_threshold_ms: millis(activation),
    })
}

fn counted(value: i64, activation: i64, what: &str) -> Answer {
    let active = value > activation;
    let compared = if active { "more than" } else { "not more than" };
    Answer {
        value,
        active,
        reason: format!("{value} {what}, {compared} activationShardCount {activation}"),
        decision: None,
    }
}

fn of_a_new_one(
    trigger: &Trigger,
    application: &Application,
    on_missing_table: OnMissingTable,
) -> Result<Answer, Error> {
    let table = table(&trigger.source);
    let found = match application.table {
        Table::Missing => format!("there is no lease table {table}"),
        Table::Read { .. } => format!(
            "the lease table {table} has no lease of {}",
            trigger.source.stream
        ),
    };
    let answer = |replicas: i64, active, word| Answer {
        value: trigger.shard_count.saturating_mul(replicas),
        active,
        reason: format!("{found}: {word}, as onMissingTable says"),
        decision: None,
    };
    match on_missing_table {
        OnMissingTable::Activate => Ok(answer(1, true, "one replica, which makes them")),
        OnMissingTable::Idle => Ok(answer(0, false, "idle")),
        OnMissingTable::Error => Err(Error::NoLeases(format!(
            "{found} in {}: correct applicationName (or leaseTable), start the application once, or set onMissingTable to activate or idle",
            trigger.source.region
        ))),
    }
}

fn of_lag(
    trigger: &Trigger,
    application: &Application,
    lag: &Lag,
    max_stale: Duration,
) -> Result<Answer, Error> {
    if let Some(LagFailure {
        error,
        since,
        in_a_row,
    }) = &lag.failure
    {
        let certain = error.kind.is_permanent() && *in_a_row >= 2;
        if certain || since.elapsed() > max_stale || lag.observation.is_none() {
            return Err(Error::Source(Arc::clone(error)));
        }
    }
    let (Some(observation), Some(settings)) = (&lag.observation, settings(trigger)) else {
        let all = application.readable().count();
        let without_verdict = |shard: &&ShardSnapshot| {
            let probe = shard.probe.as_ref();
            probe.is_none_or(|probe| probe.verdict.is_none())
        };
        let first = application.readable().find(without_verdict);
        let first = first.map_or_else(String::new, |shard| {
            let why = shard.probe.as_ref().map_or("not asked yet", |it| &it.why);
            format!(" ({}: {why})", shard.id)
        });
        return Err(Error::NotYet(format!(
            "{} of {all} readable shards of {} are known to have unread records or none; the others are being asked{first}: ask again",
            all - lag.undecided.min(all),
            trigger.source.stream
        )));
    };
    let decision = lag.right_size.decide(settings, observation);
    Ok(Answer {
        value: trigger
            .shard_count
            .saturating_mul(i64::from(decision.replicas)),
        active: decision.active,
        reason: decision.reason.to_string(),
        decision: Some(decision),
    })
}

fn table(source: &Source) -> &str {
    source.lease_table.as_ref().map_or("", |table| &table.name)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
