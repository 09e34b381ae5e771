//! That the README tells what is exposed.

use std::{collections::BTreeSet, time::Duration};

use clap::Parser as _;
use kinesis_consumer::{Checkpoint, LeaseKey};

use super::*;

fn metrics() -> Metrics {
    let arguments = [
        "x",
        "--stream-name",
        "s",
        "--table-name",
        "t",
        "--application-name",
        "a",
        "--instance-name",
        "i",
    ];
    Metrics::new(&Settings::parse_from(arguments))
}

fn shard() -> LeaseKey {
    "shardId-000000000000".into()
}

#[test]
fn the_readme_has_every_metric() {
    let metrics = metrics();
    metrics.record(&Event::LeaseAcquired {
        shard: shard(),
        from: None,
    });
    metrics.record(&Event::Fetched {
        shard: shard(),
        records: 3,
        covered: 0,
    });
    metrics.record(&Event::Processed {
        shard: shard(),
        records: 3,
        rejected: 0,
        bytes: 30,
        millis_behind_latest: 0,
        took: Duration::ZERO,
    });
    metrics.put(&Put::Older);
    metrics.write_retried("PutItem", true);
    metrics.write_retried("PutItem", false);
    metrics.rejected(&Rejected::TooDeep);
    metrics.record(&Event::StartedAnew {
        position: Checkpoint::Latest,
        since: None,
        stream: None,
    });
    metrics.record(&Event::Subscribed {
        shard: shard(),
        consumer: "arn".to_owned(),
    });
    metrics.record(&Event::TableUsed {
        operation: "UpdateItem",
        read_units: 0.5,
        write_units: 1.0,
    });
    metrics.record(&Event::Failing {
        operation: "renew",
        error: "denied".to_owned(),
        gives_up_in: Duration::from_secs(300),
    });
    let text = metrics.library.text();
    let exposed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("kinesis_consumer_"))
        .map(|line| line.split('{').next().unwrap().to_owned())
        .collect();
    let section = include_str!("../../README.md")
        .split("## Metrics")
        .nth(1)
        .unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    assert_eq!(told, exposed);
}
