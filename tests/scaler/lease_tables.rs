//! Lease tables that Java KCL 2 and 3 wrote, as the scaler sees them: what can be read, and what is
//! unread.

use std::{collections::BTreeMap, time::Duration};

use crate::support::*;
use jiff::Timestamp;
use keda_kinesis_scaler::watch::Pace;
use rstest::rstest;
use serde_json::{Value, json};
use test_support::{Said, Scripted, shard_id, shards};

/// The rows as they were read from DynamoDB.
fn rows(name: &str) -> Vec<Value> {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/crates/kinesis-consumer/tests/fixtures"
    );
    let text = std::fs::read_to_string(format!("{directory}/lease-table-{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The leases of a table by shard, read anew, attribute by attribute.
fn leases(rows: &[Value]) -> BTreeMap<&str, &Value> {
    let leases = rows.iter().filter(|row| row.get("checkpoint").is_some());
    leases
        .map(|row| (row["leaseKey"]["S"].as_str().unwrap(), row))
        .collect()
}

/// The attributes that the request asks for.
fn projected(rows: &[Value], asked: &Value) -> Said {
    let wanted: Vec<_> = asked["ExpressionAttributeNames"]
        .as_object()
        .unwrap()
        .values()
        .collect();
    let row = |row: &Value| {
        let attributes = row.as_object().unwrap().iter();
        let kept = attributes.filter(|(name, _)| wanted.iter().any(|it| *it == name.as_str()));
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect::<serde_json::Map<_, _>>()
    };
    let items: Vec<_> = rows.iter().map(row).collect();
    Ok(json!({"Count": items.len(), "Items": items}))
}

/// A shard's next record after the checkpoint, if it is one of `unread`; its end, where it is
/// closed.
fn next_record(iterator: &str, stream: &str, unread: &[&str]) -> Value {
    let (shard, checkpoint) = iterator.split_once('/').unwrap();
    let records = if unread.iter().any(|number| shard_id(number) == shard) {
        let arrived = Timestamp::now().as_second() - 60;
        json!([{"SequenceNumber": format!("{checkpoint}0"), "PartitionKey": "a", "Data": "", "ApproximateArrivalTimestamp": arrived}])
    } else {
        json!([])
    };
    let is_closed = |it: &Value| {
        it["ShardId"] == shard && it["SequenceNumberRange"]["EndingSequenceNumber"].is_string()
    };
    let ended = records == json!([]) && shards(stream).iter().any(is_closed);
    let mut page = json!({"Records": records, "MillisBehindLatest": 0});
    if !ended {
        page["NextShardIterator"] = iterator.into();
    }
    page
}

/// `stream` as [`shards`] has it; `want`: each shard's state, by number.
#[rstest]
#[case::mid_run("", "0. 1. 2. 3.", &[], "0 caughtUp, 1 caughtUp, 2 caughtUp, 3 caughtUp")]
#[case::behind("", "0. 1. 2. 3.", &["1", "3"], "0 caughtUp, 1 unread, 2 caughtUp, 3 unread")]
#[case::split_since("", "0 1. 2. 3. 0>4. 0>5.", &["0", "4"], "0 unread, 1 caughtUp, 2 caughtUp, 3 caughtUp, 4 waits, 5 waits")]
#[case::split_since_and_read("", "0 1. 2. 3. 0>4. 0>5.", &["4"], "0 drained, 1 caughtUp, 2 caughtUp, 3 caughtUp, 4 waits, 5 waits")]
#[case::merged_since("", "0 1 0+1>4. 2. 3.", &["1"], "0 drained, 1 unread, 2 caughtUp, 3 caughtUp, 4 waits")]
#[case::split("-split", "0 1. 0>2. 0>3.", &["0", "3"], "0 finished, 1 caughtUp, 2 caughtUp, 3 unread")]
#[case::split_and_the_parent_forgotten("-split", "1. 0>2. 0>3.", &["2"], "1 caughtUp, 2 unread, 3 caughtUp")]
#[case::split_and_then_merged("-split", "0 1. 0>2 0>3 2+3>4.", &["2", "4"], "0 finished, 1 caughtUp, 2 unread, 3 drained, 4 waits")]
#[case::merge("-merge", "0 1. 0>2 0>3 2+3>4.", &["4"], "0 finished, 1 caughtUp, 2 finished, 3 finished, 4 unread")]
#[case::merge_and_the_parents_forgotten("-merge", "1. 2+3>4.", &[], "1 caughtUp, 4 caughtUp")]
#[case::merge_and_split_since("-merge", "0 1. 0>2 0>3 2+3>4 4>5. 4>6.", &["5"], "0 finished, 1 caughtUp, 2 finished, 3 finished, 4 drained, 5 waits, 6 waits")]
#[tokio::test]
async fn a_table_of_java_is_understood(
    #[values("kcl2", "kcl3")] version: &str,
    #[case] table: &str,
    #[case] stream: &'static str,
    #[case] unread: &'static [&'static str],
    #[case] want: &str,
) {
    let rows = rows(&format!("{version}{table}"));
    let table = rows.clone();
    let aws = Scripted::start(move |operation, asked| match operation {
        "ListShards" => Ok(json!({"Shards": shards(stream)})),
        "Scan" => projected(&table, asked),
        "GetShardIterator" => {
            let shard = asked["ShardId"].as_str().unwrap();
            let number = asked["StartingSequenceNumber"].as_str().unwrap();
            Ok(json!({"ShardIterator": format!("{shard}/{number}")}))
        }
        "GetRecords" => {
            assert_eq!(asked["Limit"], 1);
            let iterator = asked["ShardIterator"].as_str().unwrap();
            Ok(next_record(iterator, stream, unread))
        }
        other => panic!("{other}"),
    })
    .await;
    // Two looks, and all that follows is about them.
    let stack = Stack::with(|config, tuning| {
        config.aws.refresh = Duration::from_secs(3600);
        tuning.pace = Some(Pace {
            second_look: Duration::from_millis(20),
            ..Pace::from(&config.aws)
        });
    })
    .await;
    let mut client = stack.client().await;

    let words: Vec<_> = want.split(", ").map(|it| it.split_once(' ')).collect();
    let count = |wanted: &[&str]| {
        let states = words.iter().flatten();
        states.filter(|(_, state)| wanted.contains(state)).count()
    };
    let lag = stack.scripted(&aws, "orders", &[("scaleOn", "lag")]);
    let active = answered_activity(&mut client, &lag).await;
    assert_eq!(active, count(&["unread", "drained"]) > 0);
    let readable = stack.scripted(&aws, "orders", &[("scaleOn", "readableShards")]);
    let readable = value(&mut client, &readable).await.unwrap();
    assert_eq!(readable, count(&["unread", "drained", "caughtUp"]) as f64);

    let path = "/explain/team-a/scaled-object?format=json";
    let (_, body) = http_get(stack.admin, path).await;
    let json: Value = serde_json::from_str(&body).unwrap();
    let application = &json["triggers"][0]["source"]["application"];
    let seen: BTreeMap<_, _> = application["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| (shard["id"].as_str().unwrap(), shard))
        .collect();
    assert_eq!(shard_states(application), want);
    let leases = leases(&rows);
    for (id, shard) in &seen {
        let lease = leases.get(id);
        let raw = |name: &str| lease.map_or(&Value::Null, |lease| &lease[name]["S"]);
        assert_eq!(&shard["lease"]["owner"], raw("leaseOwner"), "{id}");
        assert_eq!(&shard["lease"]["checkpoint"], raw("checkpoint"), "{id}");
    }
    let told = application["table"].as_str().unwrap();
    let others = rows.len() - leases.len();
    assert_eq!(others > 0, version == "kcl3");
    assert!(
        told.starts_with(&format!("{} leases", leases.len())),
        "{told}"
    );
    assert_eq!(
        told.contains(&format!("; {others} rows")),
        others > 0,
        "{told}"
    );
    assert_eq!(application["malformed"], json!([]));

    // Each shard that can be read was asked once, for what comes after its checkpoint.
    let asked = aws.calls("GetShardIterator");
    assert_eq!(asked.len(), count(&["unread", "drained", "caughtUp"]));
    for asked in asked {
        assert_eq!(asked["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
        let lease = leases[asked["ShardId"].as_str().unwrap()];
        assert_eq!(asked["StartingSequenceNumber"], lease["checkpoint"]["S"]);
    }
}
