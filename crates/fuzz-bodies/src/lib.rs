//! What strangers can hand to the programs, as bodies for fuzzing: each takes any bytes and must
//! come back, without a panic and with an answer of bounded length.
//!
//! `cargo test` runs them over `fuzz/corpus` and over mutations of it; `cargo fuzz run NAME`, with
//! a nightly compiler, as long as one likes. What it finds goes into `fuzz/corpus/NAME`.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use kcl_multilang::{
    properties::{self, Host},
    wire::{
        answers,
        lines::{LONGEST, Lines},
    },
};
use keda_kinesis_scaler::{config::Config, report, trigger::Trigger};
use kinesis_consumer::{
    Record, lease,
    shards::{HashRange, last_sub_sequence_number},
    test_util::deaggregate,
};
use kinesis_edge::AttributeValue;
use md5::{Digest as _, Md5};
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The longest error about metadata: it goes into a Kubernetes event and a log line.
const LONGEST_ERROR: usize = 64 << 10;

/// What is tried with some bytes: it does not panic.
pub type Body = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const BODIES: [(&str, Body); 9] = [
    ("aggregate", aggregate),
    ("arn", arn),
    ("child", child),
    ("config", config),
    ("lease", lease_item),
    ("manifest", manifest),
    ("properties", properties_file),
    ("recording", recording),
    ("trigger", trigger),
];

/// Trigger metadata: a `key=value` a line.
pub fn trigger(data: &[u8]) {
    let text = text(data);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let metadata = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    parse(&metadata.collect());
}

/// ARNs and endpoints, each in all places where metadata may have one.
pub fn arn(data: &[u8]) {
    let text = text(data);
    for key in [
        "streamArn",
        "leaseTable",
        "awsRoleArn",
        "leaseTableRoleArn",
        "awsEndpoint",
        "leaseTableEndpoint",
    ] {
        let mut metadata = HashMap::from([
            ("streamName".to_owned(), "orders".to_owned()),
            ("scaleOn".to_owned(), "lag".to_owned()),
            ("applicationName".to_owned(), "billing".to_owned()),
        ]);
        if key == "streamArn" {
            metadata.remove("streamName");
        }
        metadata.insert(key.to_owned(), text.clone().into_owned());
        parse(&metadata);
    }
}

fn parse(metadata: &HashMap<String, String>) {
    match Trigger::parse(metadata, Some("eu-west-1")) {
        Ok(trigger) => assert!(!trigger.metric_name().is_empty()),
        Err(error) => assert!(error.to_string().len() < LONGEST_ERROR, "{error}"),
    }
}

/// Manifests, as `check -f` reads them.
pub fn manifest(data: &[u8]) {
    for message in report::read_manifests(data) {
        assert!(message.len() < LONGEST_ERROR, "{message}");
    }
}

/// The scaler's configuration: what is accepted can be written, and is the same then.
pub fn config(data: &[u8]) {
    let Ok(config) = Config::parse(&text(data), "fuzz") else {
        return;
    };
    let written = config.to_yaml().expect("paths are text");
    let again = Config::parse(&written, "again").expect("what was written can be read");
    assert_eq!(again.to_yaml().ok(), Some(written));
}

/// The protobuf of a KPL aggregate, which gets its magic number and digest here. It holds no more
/// user records than bytes.
pub fn aggregate(data: &[u8]) {
    let mut framed = vec![0xf3, 0x89, 0x9a, 0xc2];
    framed.extend_from_slice(data);
    framed.extend_from_slice(&Md5::digest(data));
    // And as it came: with a broken frame, or of a producer of one's own.
    for data in [Bytes::from(framed), Bytes::copy_from_slice(data)] {
        let last = last_sub_sequence_number(&data);
        let number = "495".parse().expect("a sequence number");
        let record = Record::new(number, "key", data.clone());
        for range in [None, Some(HashRange { start: 0, end: 1 })] {
            assert!(last as usize <= data.len());
            let Some(records) = deaggregate(record.clone(), range) else {
                continue;
            };
            assert!((1..=data.len().max(1)).contains(&records.len()));
            assert_eq!(records[records.len() - 1].sub_sequence_number, last);
        }
    }
}

/// An item of a lease table, in DynamoDB's JSON.
pub fn lease_item(data: &[u8]) {
    let Ok(Value::Object(attributes)) = serde_json::from_slice(data) else {
        return;
    };
    let attributes = attributes.into_iter();
    let item = attributes.filter_map(|(name, value)| Some((name, attribute(&value)?)));
    let item: lease::Item = item.collect();
    let _ = (lease::key(&item).len(), lease::parse(&item));
}

fn attribute(value: &Value) -> Option<AttributeValue> {
    let (kind, value) = value.as_object()?.iter().next()?;
    let texts = || -> Option<Vec<_>> {
        let texts = value.as_array()?.iter();
        texts.map(|text| text.as_str().map(str::to_owned)).collect()
    };
    Some(match kind.as_str() {
        "S" => AttributeValue::S(value.as_str()?.to_owned()),
        "N" => AttributeValue::N(value.as_str()?.to_owned()),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(true),
        "SS" => AttributeValue::Ss(texts()?),
        "NS" => AttributeValue::Ns(texts()?),
        "M" => AttributeValue::M(HashMap::new()),
        _ => return None,
    })
}

/// A recording of `serve --record`. Every decision is one that KEDA can be told.
pub fn recording(data: &[u8]) {
    for decision in right_sizing::replay(data).flatten() {
        let _ = (
            decision.reason.to_string(),
            serde_json::to_string(&decision),
        );
    }
}

/// What a child process of kcl-multilang prints, in one piece and in many.
pub fn child(data: &[u8]) {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| all.push(line));
        }
        all.extend(lines.end());
        all
    };
    let whole = read(&mut std::iter::once(data));
    assert_eq!(whole, read(&mut data.chunks(7)));
    for line in whole {
        // What is not UTF-8 becomes three bytes for one.
        assert!(line.text.len() <= 3 * LONGEST);
        if let Some(answers::Answer::Checkpoint(asked)) = answers::parse(&line.text) {
            let _ = asked.sub_sequence();
        }
    }
}

/// A properties file of the MultiLangDaemon.
pub fn properties_file(data: &[u8]) {
    let Ok(entries) = properties::parse(data) else {
        return;
    };
    let host = Host {
        name: "host".to_owned(),
        is_pod: false,
        random: 7,
    };
    let (report, setup) = properties::read(&entries, &host);
    assert_eq!(report.is_fit(), setup.is_some());
    let _ = (report.errors(), report.warnings());
}

fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}
