//! Snapshots and errors for unit tests.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kinesis_consumer::shards::Readability;
use tokio::time::Instant;

use super::{ApplicationSnapshot, Lag, ProbeSnapshot, Probes, ShardSnapshot, Table};
use crate::{
    error::SourceErrorKind,
    source::{failure::Failure, probe::Verdict},
    trigger::{
        ApplicationSource, LeaseTable, Measure, OnMissingTable, ScaleOn, Stream, StreamSource,
        Trigger, Work,
    },
};

/// The application `billing` on the stream `orders`.
pub(crate) fn source() -> ApplicationSource {
    ApplicationSource {
        stream: StreamSource {
            stream: Stream::Name("orders".to_owned()),
            region: "eu-west-1".to_owned(),
            endpoint: None,
            role: None,
        },
        table: LeaseTable {
            name: "billing".to_owned(),
            arn: None,
            region: "eu-west-1".to_owned(),
            endpoint: None,
            role: None,
        },
        initial_timestamp: None,
    }
}

/// A trigger on the lag of that application.
pub(crate) fn lag_trigger(threshold_seconds: u64) -> Trigger {
    let ApplicationSource { stream, table, .. } = source();
    Trigger {
        stream,
        scale_on: ScaleOn::Application(Work {
            application: "billing".to_owned(),
            table,
            table_key: "applicationName",
            on_missing_table: OnMissingTable::Activate,
            measure: Measure::Lag {
                threshold: std::time::Duration::from_secs(threshold_seconds),
                activation: std::time::Duration::ZERO,
            },
            initial_timestamp: None,
        }),
        shard_count: 1,
    }
}

/// Caught up with so many readable shards, and these failures of probes since.
pub(crate) fn caught_up(shards: usize, failures: &[SourceErrorKind]) -> ApplicationSnapshot {
    let time = Timestamp::now();
    let failure = failures.iter().fold(None, |before, kind| {
        Some(Failure::after(before, kind.example()))
    });
    let is_certain = failure.as_ref().is_some_and(Failure::is_certain);
    let shard = |number| ShardSnapshot {
        id: format!("shardId-{number:012}").into(),
        closed: false,
        parents: BTreeSet::new(),
        lease: None,
        malformed: false,
        readability: Readability::Readable { start: None },
        probe: Some(ProbeSnapshot {
            verdict: (!is_certain).then_some(Verdict::CaughtUp),
            about: None,
            as_of: (!failures.is_empty()).then_some(time),
            counted_since: None,
            why: "nothing after the checkpoint".into(),
            asked: Some(Instant::now()),
        }),
    };
    ApplicationSnapshot {
        at: Instant::now(),
        time,
        aws_ahead: None,
        rhythm: None,
        is_first_look: false,
        no_leases_since: None,
        table: Table::Read {
            leases: shards,
            unlisted: 0,
            others: 0,
            older: 0,
            malformed: Vec::new(),
        },
        shards: (0..shards).map(shard).collect(),
        lag: Some(Lag {
            time,
            undecided: if is_certain { shards } else { 0 },
            under_way: false,
            cut_short: false,
            latest: None,
            failure,
            probes: Probes::default(),
        }),
    }
}
