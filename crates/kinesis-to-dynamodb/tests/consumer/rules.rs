//! The chart's alerts name metrics that the consumer exports.

use std::path::Path;

use crate::support::{World, queries};

#[tokio::test]
async fn the_rules_name_what_is_exported() {
    let world = World::tutorial(1).await;
    world.put("bad", "no JSON").await;
    world.put("good", "{}").await;
    let consumer = world.consumer("pod-1").start();
    consumer
        .metric_when("rejected_records_total", "", |count| count == 1.0)
        .await;
    world.user_when("good", |_| true).await;
    let (_, scrape) = consumer.get("/metrics").await;
    consumer.stop().await;

    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../charts/kinesis-to-dynamodb/templates/prometheusrule.yaml");
    let rules = std::fs::read_to_string(rules).unwrap();
    let named = queries::named(&rules, "kinesis_consumer_");
    assert!(!named.is_empty());
    let exported = queries::exported(&scrape);
    let unknown: Vec<_> = named.difference(&exported).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {exported:?}");
}
