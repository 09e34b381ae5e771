//! What is told, after which events.

use std::time::Duration;

use kinesis_consumer::{Checkpoint, Position, UnfitAggregate};
use tokio::time::advance;

use super::*;

fn metrics() -> Metrics {
    Metrics::new("s", "a", "i")
}

fn shard() -> LeaseKey {
    "shardId-000000000000".into()
}

fn processed(millis_behind_latest: i64) -> Event {
    Event::Processed {
        shard: shard(),
        records: 3,
        rejected: 0,
        bytes: 30,
        millis_behind_latest,
        took: Duration::ZERO,
    }
}

fn line(metrics: &Metrics, name: &str) -> Option<String> {
    let text = metrics.text();
    text.lines()
        .find(|line| line.starts_with(&format!("kinesis_consumer_{name}{{")))
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
}

#[test]
fn a_shard_given_up_leaves_no_lag_behind_and_counts_once() {
    let metrics = metrics();
    metrics.record(&Event::LeaseAcquired {
        shard: shard(),
        from: None,
    });
    assert_eq!(line(&metrics, "current_leases").as_deref(), Some("1"));
    assert_eq!(
        line(&metrics, "millis_behind_latest"),
        None,
        "unknown is not 0"
    );
    metrics.record(&processed(250));
    assert_eq!(
        line(&metrics, "millis_behind_latest").as_deref(),
        Some("250")
    );
    metrics.record(&Event::ShardEnded {
        shard: shard(),
        children: vec![],
    });
    metrics.record(&Event::LeaseReleased { shard: shard() });
    assert_eq!(line(&metrics, "current_leases").as_deref(), Some("0"));
    assert_eq!(line(&metrics, "millis_behind_latest"), None);
    assert_eq!(
        line(&metrics, "released_leases_total").as_deref(),
        Some("0")
    );
    assert_eq!(
        line(&metrics, "settled_records_total").as_deref(),
        Some("3")
    );
    // A page that was under way brings no lag back.
    metrics.record(&Event::Polled {
        shard: shard(),
        millis_behind_latest: 1,
    });
    assert_eq!(line(&metrics, "millis_behind_latest"), None);
}

#[test]
fn units_of_the_lease_table_are_counted_by_operation() {
    let metrics = metrics();
    for (operation, read_units, write_units) in [
        ("Scan", 0.5, 0.0),
        ("UpdateItem", 0.0, 1.0),
        ("Scan", 2.0, 0.0),
    ] {
        metrics.record(&Event::TableUsed {
            operation,
            read_units,
            write_units,
        });
    }
    let text = metrics.text();
    let of = |line: &str| {
        text.lines()
            .any(|it| it.starts_with("kinesis_consumer_") && it.contains(line))
    };
    assert!(of("operation=\"Scan\"} 2.5"), "{text}");
    assert!(of("operation=\"UpdateItem\"} 1.0"), "{text}");
    assert!(
        !of("lease_table_write_units_total{stream=\"s\",application=\"a\",operation=\"Scan\"}"),
        "{text}"
    );
}

#[test]
fn every_record_is_in_hand_until_it_is_settled() {
    let metrics = metrics();
    let in_hand = || line(&metrics, "records_in_hand").unwrap();
    let shard = shard();
    metrics.record(&Event::Fetched {
        shard: shard.clone(),
        records: 10,
        covered: 2,
    });
    assert_eq!(in_hand(), "8");
    metrics.record(&processed(0));
    assert_eq!(in_hand(), "5");
    metrics.record(&Event::AggregateRejected {
        shard: shard.clone(),
        position: Position {
            sequence_number: "7".parse().unwrap(),
            sub_sequence_number: 1,
        },
        records: 2,
        bytes: 70,
        reason: UnfitAggregate::Malformed("it has no user records"),
    });
    assert_eq!(in_hand(), "3");
    metrics.record(&Event::GivenBack { shard, records: 3 });
    assert_eq!(in_hand(), "0");
    let text = metrics.text();
    for outcome in [
        "covered\"} 2",
        "processed\"} 3",
        "rejected\"} 2",
        "given_back\"} 3",
    ] {
        assert!(text.contains(outcome), "{outcome}: {text}");
    }
}

#[test]
fn a_shards_end_that_waits_is_told_until_the_lease_goes() {
    let metrics = metrics();
    metrics.record(&Event::LeaseAcquired {
        shard: shard(),
        from: None,
    });
    metrics.record(&Event::ShardEndWaits {
        shard: shard(),
        acknowledged: Checkpoint::TrimHorizon,
        delivered: Checkpoint::Latest,
        retry_in: Duration::ZERO,
    });
    assert_eq!(line(&metrics, "waiting_shard_ends").as_deref(), Some("1"));
    metrics.record(&Event::LeaseReleased { shard: shard() });
    assert_eq!(line(&metrics, "waiting_shard_ends").as_deref(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_ages_until_it_moves() {
    let metrics = metrics();
    metrics.record(&Event::LeaseAcquired {
        shard: shard(),
        from: None,
    });
    let age = || line(&metrics, "checkpoint_age_seconds").unwrap();
    advance(Duration::from_secs(3600)).await;
    assert_eq!(age(), "3600");
    metrics.record(&Event::Checkpointed {
        shard: shard(),
        checkpoint: Checkpoint::TrimHorizon,
    });
    assert_eq!(age(), "0");
    advance(Duration::from_secs(5)).await;
    assert_eq!(age(), "5");
    assert_eq!(metrics.state()["leases"][0]["checkpoint"], "TRIM_HORIZON");
}

#[test]
fn a_programs_own_metrics_stand_beside_them() {
    let mut metrics = metrics();
    let written: Counter = metrics.add("items_written", "Items written");
    written.inc();
    assert_eq!(line(&metrics, "items_written_total").as_deref(), Some("1"));
}

#[test]
fn lag_grows_while_nothing_is_told() {
    let mut held = Held::new();
    assert_eq!(held.lag_millis(held.told), None, "unknown is not 0");
    held.tell(250);
    assert_eq!(
        held.lag_millis(held.told + Duration::from_secs(1)),
        Some(250)
    );
    assert_eq!(
        held.lag_millis(held.told + Duration::from_secs(20)),
        Some(20_250)
    );
}

#[test]
fn failing_streams_are_counted_and_named_until_they_recover_or_go() {
    let metrics = Metrics::new("orders-*", "app", "pod-1");
    metrics.set_ready(true);
    let stream: kinesis_consumer::StreamIdentifier = "1:orders-a:7".parse().unwrap();
    for stream in ["orders-b", "1:orders-a:7"] {
        metrics.record(&Event::StreamFailing {
            stream: stream.to_owned(),
            error: "denied".to_owned(),
        });
    }
    let has = |line: &str| {
        let text = metrics.text();
        assert!(text.contains(line), "{text}");
    };
    has("failing_streams{stream=\"orders-*\",application=\"app\"} 2");
    has("stream_failures_total{stream=\"orders-*\",application=\"app\"} 2");
    assert_eq!(metrics.state()["failingStreams"][1]["stream"], "orders-b");
    let ready = metrics.state.readiness().unwrap();
    assert!(
        ready.contains("stream orders-b cannot be read: denied"),
        "{ready}"
    );
    metrics.record(&Event::StreamRecovered {
        stream: "orders-b".to_owned(),
    });
    metrics.record(&Event::StreamRemoved { stream });
    has("failing_streams{stream=\"orders-*\",application=\"app\"} 0");
}
