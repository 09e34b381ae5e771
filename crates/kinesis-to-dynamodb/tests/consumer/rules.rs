//! The chart's alerts name metrics that the consumer exports.

use std::{path::Path, time::Duration};

use test_support::{PATIENCE, promtool, queries};

use crate::support::World;

#[tokio::test]
async fn the_rules_name_what_is_exported() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../charts/kinesis-to-dynamodb/templates/prometheusrule.yaml");
    let rules = std::fs::read_to_string(rules).unwrap();
    let mut named = queries::named(&rules, "kinesis_consumer_");
    // Of kcl-multilang, which the chart runs, too; its own tests hold what it exports.
    named.retain(|name| !name.starts_with("kinesis_consumer_children_"));
    assert!(!named.is_empty());

    let world = World::tutorial(1).await;
    world.put("bad", "no JSON").await;
    world.put("good", "{}").await;
    let consumer = world.consumer("pod-1").start();
    // A metric has a line once there is something to tell; each comes in its own time.
    let mut missing = vec![String::new()];
    let scraped = async {
        while !missing.is_empty() {
            let (_, scrape) = consumer.get("/metrics").await;
            let exported = queries::exported(&scrape);
            let unknown = named.difference(&exported);
            missing = unknown.map(|name| (*name).to_owned()).collect();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, scraped).await;
    assert!(missing.is_empty(), "never exported: {missing:?}");
    let (_, scrape) = consumer.get("/metrics").await;
    promtool::check_metrics("the_rules_name_what_is_exported", &scrape);
    consumer.stop().await;
}
