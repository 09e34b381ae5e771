//! An application as a scrape shows it.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    metrics::{ApplicationGauges, Unread},
    source::snapshot::ApplicationSnapshot,
    trigger::ApplicationSource,
};

/// The gauges of an application, `now` in wall time; `by_shard`: the age of each shard, too.
pub fn gauges(
    source: &ApplicationSource,
    application: &ApplicationSnapshot,
    now: Timestamp,
    by_shard: bool,
) -> ApplicationGauges {
    let ages = || {
        application.readable().filter_map(|shard| {
            let age = now.duration_since(shard.unread_since()?);
            // The clocks may differ by seconds.
            Some((&shard.id, age.try_into().unwrap_or(Duration::ZERO)))
        })
    };
    // Never a partial number.
    let unread = application.decided_lag().map(|lag| Unread {
        shards: ages().count(),
        oldest: ages().map(|(_, age)| age).max().unwrap_or_default(),
        probes: lag.probes.by_outcome(),
        by_shard: ages()
            .filter(|_| by_shard)
            .map(|(id, age)| (id.to_string(), age))
            .collect(),
    });
    ApplicationGauges {
        stream: source.stream.stream.to_string(),
        region: source.stream.region.clone(),
        lease_table: source.table.label(&source.stream),
        readable: application.readable().count(),
        unread,
    }
}
