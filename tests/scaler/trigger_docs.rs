//! `docs/trigger.md` tells every key, with examples that are accepted, errors in the very words,
//! and what goes with which `scaleOn`.

use std::{collections::HashMap, fs, path::Path};

use keda_kinesis_scaler::trigger::{KEYS, Trigger};

type Metadata = HashMap<String, String>;

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/trigger.md")).unwrap()
}

/// Each `###` heading with what stands under it.
fn sections(document: &str) -> Vec<(&str, &str)> {
    let sections = document.split("\n### `").skip(1);
    sections
        .map(|text| text.split_once("`\n").unwrap())
        .collect()
}

/// A trigger that is right, and these keys over it.
fn over(written: Metadata) -> Metadata {
    let mut all = Metadata::from([("awsRegion".to_owned(), "eu-west-1".to_owned())]);
    if !written.contains_key("streamArn") && !written.contains_key("streams") {
        all.insert("streamName".to_owned(), "orders".to_owned());
    }
    all.extend(written);
    all
}

#[test]
fn it_names_exactly_the_keys_with_their_defaults() {
    let document = document();
    let mut told: Vec<_> = sections(&document)
        .into_iter()
        .map(|(key, text)| {
            let default = text.trim_start().lines().next().unwrap();
            let default = default.strip_prefix("Default: ").unwrap_or_else(|| {
                panic!("{key} wants a line that starts with \"Default: \", not {default:?}")
            });
            (key, default.strip_suffix('.').unwrap())
        })
        .collect();
    let mut keys: Vec<_> = KEYS.iter().map(|key| (key.name, key.default)).collect();
    told.sort_unstable();
    keys.sort_unstable();
    assert_eq!(told, keys);
}

#[test]
fn every_keys_example_has_the_key_and_is_accepted() {
    let document = document();
    for (key, text) in sections(&document) {
        let example = text.split_once("```yaml\n").unwrap().1;
        let example = example.split_once("```").unwrap().0;
        let metadata: Metadata = serde_yaml::from_str(example).unwrap();
        assert!(metadata.contains_key(key), "{key}: {example}");
        Trigger::parse(&metadata, None).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

#[test]
fn every_error_is_answered_in_these_words() {
    let document = document();
    let mut seen = 0;
    for (key, text) in sections(&document) {
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            let (written, answered) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
            let written: Metadata = written
                .split("`, `")
                .map(|pair| pair.trim_matches('`').split_once(": ").unwrap())
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let error = Trigger::parse(&over(written), None).unwrap_err();
            assert_eq!(error.to_string(), answered, "{key}");
            seen += 1;
        }
    }
    assert!(seen >= KEYS.len(), "{seen} errors for {} keys", KEYS.len());
}

/// A right value of a key.
fn right(key: &str) -> &'static str {
    match key {
        "streamName" => "orders",
        "streamArn" => "arn:aws:kinesis:eu-west-1:111122223333:stream/orders",
        "streams" => "all",
        "awsRegion" | "leaseTableRegion" => "eu-west-1",
        "onMissingTable" => "idle",
        "initialTimestamp" => "2026-11-30T08:00:00Z",
        "awsEndpoint" | "leaseTableEndpoint" => "http://127.0.0.1:1",
        "awsRoleArn" | "leaseTableRoleArn" => "arn:aws:iam::111122223333:role/r",
        "awsExternalId"
        | "leaseTableExternalId"
        | "identityOwner"
        | "applicationName"
        | "leaseTable" => "billing",
        "shardCount" | "activationShardCount" | "lagThreshold" | "activationLagThreshold" => "3",
        other => panic!("docs/trigger.md has {other}, which this test does not know"),
    }
}

/// The key of the role that an external id is for.
fn role_with(key: &str) -> Option<&'static str> {
    match key {
        "awsExternalId" => Some("awsRoleArn"),
        "leaseTableExternalId" => Some("leaseTableRoleArn"),
        _ => None,
    }
}

#[test]
fn the_table_of_scale_on_tells_what_is_needed_taken_and_refused() {
    let document = document();
    let (_, table) = document.split_once("<!-- scale-on:begin -->").unwrap();
    let (table, _) = table.split_once("<!-- scale-on:end -->").unwrap();
    let mut rows = table.trim().lines();
    let scale_ons = cells(rows.next().unwrap());
    let mut told = Vec::new();
    for row in rows.skip(1) {
        let row = cells(row);
        let keys: Vec<_> = row[0].split('`').skip(1).step_by(2).collect();
        for (scale_on, says) in scale_ons.iter().zip(&row).skip(1) {
            let scale_on = scale_on.trim_matches('`');
            for key in &keys {
                let mut with = over(
                    [("scaleOn", scale_on), ("applicationName", "billing")]
                        .into_iter()
                        .filter(|(key, _)| scale_on != "openShards" || *key == "scaleOn")
                        .chain(role_with(key).map(|role| (role, right(role))))
                        .chain([(*key, right(key))])
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .collect(),
                );
                let region = Some("eu-west-1");
                let taken = Trigger::parse(&with, region).is_ok();
                with.remove(*key);
                let needed = taken && Trigger::parse(&with, region).is_err();
                let want = match (taken, needed) {
                    (false, _) => "no",
                    (true, true) => "needed",
                    (true, false) => "yes",
                };
                assert_eq!(*says, want, "{key} with {scale_on}");
            }
        }
        told.extend(keys.into_iter().map(str::to_owned));
    }
    let mut keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    keys.retain(|key| *key != "scaleOn");
    keys.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, keys);
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}
