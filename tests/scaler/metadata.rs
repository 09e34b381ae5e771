//! Trigger metadata: what is read, what is refused and in which words, and that the guide lists
//! exactly what the parser reads.

mod refusals;
mod variables;

use std::{collections::HashMap, fs, path::Path, time::Duration};

use keda_kinesis_scaler::{
    error::Error,
    trigger::{KEYS, LeaseTable, Measure, OnMissingTable, Role, ScaleOn, Stream, Trigger},
};
use proptest::prelude::*;
use rstest::rstest;
use tonic::Code;

const ARN: &str = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";

/// `key=value` pairs, one after the other, over a trigger that would be right without them.
fn trigger(pairs: &[(&str, &str)]) -> Result<Trigger, Error> {
    let base = [("streamName", "orders"), ("awsRegion", "us-east-1")];
    parse(&base.iter().chain(pairs).copied().collect::<Vec<_>>(), None)
}

fn parse(pairs: &[(&str, &str)], default_region: Option<&str>) -> Result<Trigger, Error> {
    let metadata = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Trigger::parse(&metadata, default_region)
}

fn refusal(result: Result<Trigger, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    error.to_string()
}

#[test]
fn defaults() {
    let trigger = trigger(&[]).unwrap();
    assert_eq!(trigger.shard_count, 2);
    assert_eq!(trigger.scale_on, ScaleOn::OpenShards { activation: 0 });
    assert_eq!(trigger.lease_table(), None);
    assert_eq!(trigger.stream.stream, Stream::Name("orders".to_owned()));
    assert_eq!(trigger.stream.region, "us-east-1");
    assert_eq!((trigger.stream.endpoint, trigger.stream.role), (None, None));
}

#[test]
fn lag_defaults() {
    let trigger = trigger(&[("scaleOn", "lag"), ("applicationName", "billing")]).unwrap();
    let ScaleOn::Application(work) = trigger.scale_on else {
        panic!("{trigger:?}")
    };
    let want = Measure::Lag {
        threshold: Duration::from_secs(30),
        activation: Duration::ZERO,
    };
    assert_eq!(
        (work.measure, work.on_missing_table),
        (want, OnMissingTable::Activate)
    );
    let table = work.table;
    assert_eq!((table.name.as_str(), table.endpoint), ("billing", None));
    assert_eq!((table.region.as_str(), table.role), ("us-east-1", None));
}

/// The table, and what a missing one is worth.
fn table(pairs: &[(&str, &str)]) -> (LeaseTable, OnMissingTable) {
    let lag = [("scaleOn", "lag"), ("applicationName", "billing")];
    match trigger(&[&lag[..], pairs].concat()).unwrap().scale_on {
        ScaleOn::Application(work) => (work.table, work.on_missing_table),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_table_is_where_the_stream_is_unless_the_trigger_says_more() {
    let role = |arn: &str, external_id: Option<&str>| {
        Some(Role {
            arn: arn.to_owned(),
            external_id: external_id.map(str::to_owned),
        })
    };
    let (a, b) = (
        "arn:aws:iam::111122223333:role/a",
        "arn:aws:iam::444455556666:role/b",
    );
    let of_stream = [("awsRoleArn", a), ("awsExternalId", "a-1")];

    let (beside, missing) = table(&of_stream);
    assert_eq!(
        (&*beside.region, beside.role),
        ("us-east-1", role(a, Some("a-1")))
    );
    assert_eq!(missing, OnMissingTable::Error);

    let (own, missing) = table(&[&of_stream[..], &[("leaseTableRoleArn", "none")]].concat());
    assert_eq!((own.role, missing), (None, OnMissingTable::Error));

    let (others, _) = table(&[
        ("awsRoleArn", a),
        ("leaseTableRoleArn", b),
        ("leaseTableExternalId", "b-1"),
        ("leaseTableRegion", "eu-west-1"),
    ]);
    assert_eq!(
        (&*others.region, others.role),
        ("eu-west-1", role(b, Some("b-1")))
    );

    let arn = "arn:aws:dynamodb:eu-north-1:444455556666:table/leases";
    let (by_arn, missing) = table(&[("leaseTable", arn)]);
    assert_eq!((&*by_arn.name, by_arn.as_asked()), ("leases", arn));
    assert_eq!(
        (&*by_arn.region, missing),
        ("eu-north-1", OnMissingTable::Error)
    );

    let label = |pairs: &[(&str, &str)]| {
        let lag = [("scaleOn", "lag"), ("applicationName", "billing")];
        let trigger = trigger(&[&lag[..], pairs].concat()).unwrap();
        trigger.lease_table().unwrap().label(&trigger.stream)
    };
    assert_eq!(label(&of_stream), "billing");
    assert_eq!(label(&[("leaseTable", arn)]), arn);
    assert_eq!(
        label(&[("leaseTableRegion", "eu-west-1")]),
        "billing@eu-west-1"
    );
    assert_eq!(label(&[("leaseTableRoleArn", b)]), "billing@444455556666");
    let own = [("awsRoleArn", a), ("leaseTableRoleArn", "none")];
    assert_eq!(label(&own), "billing@own");

    // By ARN the account is known: a role of another is not for this table, unless it is said to
    // be.
    let of = |account: &str| format!("arn:aws:dynamodb:us-east-1:{account}:table/leases");
    let role_for = |account: &str, more: &[(&str, &str)]| {
        let arn = of(account);
        let pairs = [&of_stream[..], &[("leaseTable", &*arn)], more].concat();
        table(&pairs).0.role.map(|role| role.arn)
    };
    assert_eq!(role_for("111122223333", &[]).as_deref(), Some(a));
    assert_eq!(role_for("444455556666", &[]), None);
    let said = [("leaseTableRoleArn", a)];
    assert_eq!(role_for("444455556666", &said).as_deref(), Some(a));

    // So it is of the stream's ARN: a table of another account, or one that may be, is elsewhere.
    let by_arn = |table: &str| {
        let stream = "arn:aws:kinesis:us-east-1:444455556666:stream/orders";
        let keys = [
            ("streamArn", stream),
            ("scaleOn", "lag"),
            ("applicationName", "billing"),
            ("leaseTable", table),
        ];
        match parse(&keys, None).unwrap().scale_on {
            ScaleOn::Application(work) => work.on_missing_table,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(by_arn(&of("444455556666")), OnMissingTable::Activate);
    assert_eq!(by_arn(&of("111122223333")), OnMissingTable::Error);
    assert_eq!(by_arn("leases"), OnMissingTable::Activate);
    let of_either = of("444455556666");
    assert_eq!(
        table(&[("leaseTable", &of_either)]).1,
        OnMissingTable::Error
    );
    let said = [&of_stream[..], &[("onMissingTable", "activate")]].concat();
    assert_eq!(table(&said).1, OnMissingTable::Activate);
}

#[test]
fn everything_of_an_application() {
    let trigger = trigger(&[
        ("scaleOn", "lag"),
        ("applicationName", "my billing"),
        ("leaseTable", " billing-leases "),
        ("leaseTableEndpoint", "http://127.0.0.1:8000"),
        ("lagThreshold", "1m30s"),
        ("activationLagThreshold", "5"),
        ("onMissingTable", "idle"),
    ])
    .unwrap();
    let ScaleOn::Application(work) = trigger.scale_on else {
        panic!("{trigger:?}")
    };
    let want = Measure::Lag {
        threshold: Duration::from_secs(90),
        activation: Duration::from_secs(5),
    };
    assert_eq!(
        (work.measure, work.on_missing_table),
        (want, OnMissingTable::Idle)
    );
    let table = work.table;
    assert_eq!(table.name, "billing-leases");
    assert_eq!(table.endpoint.unwrap().as_str(), "http://127.0.0.1:8000/");
}

#[test]
fn everything() {
    let role = "arn:aws:iam::111122223333:role/keda/orders";
    let trigger = parse(
        &[
            ("scaleOn", "openShards"),
            ("streamArn", ARN),
            ("awsRegion", "eu-west-1"),
            ("awsEndpoint", "HTTPS://Kinesis.example.com:443"),
            ("shardCount", "3"),
            ("activationShardCount", "-1"),
            ("identityOwner", "whoever"),
            ("awsRoleArn", role),
            ("awsExternalId", "team-a/7"),
        ],
        Some("us-east-1"),
    )
    .unwrap();
    assert_eq!(trigger.shard_count, 3);
    assert_eq!(trigger.scale_on, ScaleOn::OpenShards { activation: -1 });
    assert_eq!(trigger.stream.stream, Stream::Arn(ARN.to_owned()));
    assert_eq!(trigger.stream.stream.name(), "orders");
    assert_eq!(
        trigger.stream.endpoint.unwrap().as_str(),
        "https://kinesis.example.com/"
    );
    let wanted = Role {
        arn: role.to_owned(),
        external_id: Some("team-a/7".to_owned()),
    };
    assert_eq!(trigger.stream.role, Some(wanted));
}

#[rstest]
#[case::the_triggers_own(&[("streamName", "orders"), ("awsRegion", "us-west-2")], Some("us-east-1"), "us-west-2")]
#[case::the_scalers(&[("streamName", "orders")], Some("us-east-1"), "us-east-1")]
#[case::the_arns_before_the_scalers(&[("streamArn", ARN)], Some("us-east-1"), "eu-west-1")]
#[case::the_arns_alone(&[("streamArn", ARN)], None, "eu-west-1")]
#[case::blank_is_absent(&[("streamName", "orders"), ("awsRegion", " ")], Some("us-east-1"), "us-east-1")]
fn regions(#[case] pairs: &[(&str, &str)], #[case] default: Option<&str>, #[case] wanted: &str) {
    assert_eq!(parse(pairs, default).unwrap().stream.region, wanted);
}

#[rstest]
#[case("orders", "aws-kinesis-orders")]
#[case("my.stream.v1", "aws-kinesis-my-stream-v1")]
#[case("a_b-c", "aws-kinesis-a_b-c")]
#[case("..", "aws-kinesis---")]
fn metric_names(#[case] stream: &str, #[case] wanted: &str) {
    assert_eq!(
        trigger(&[("streamName", stream)]).unwrap().metric_name(),
        wanted
    );
}

#[test]
fn the_metric_of_an_arn_is_named_for_the_stream() {
    assert_eq!(
        parse(&[("streamArn", ARN)], None).unwrap().metric_name(),
        "aws-kinesis-orders"
    );
}

#[rstest]
fn white_space_around_a_value_is_trimmed(
    #[values(
        " ", "\t", "\r\n", "\u{a0}", "\u{2003}", "\u{3000}", "\u{85}", "\u{2028}"
    )]
    space: &str,
) {
    let padded = |value: &str| format!("{space}{value}{space}");
    let (stream, region, count) = (padded("orders"), padded("us-east-1"), padded("3"));
    let parsed = trigger(&[
        ("streamName", &stream),
        ("awsRegion", &region),
        ("shardCount", &count),
        ("awsEndpoint", space),
    ]);
    assert_eq!(parsed.unwrap(), trigger(&[("shardCount", "3")]).unwrap());
}

#[test]
fn the_guide_lists_every_key() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/trigger.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (begin, end) = (
        "<!-- trigger-metadata:begin -->",
        "<!-- trigger-metadata:end -->",
    );
    let listed = guide
        .split_once(begin)
        .and_then(|(_, rest)| rest.split_once(end))
        .map(|(table, _)| table.trim());
    let rows = KEYS
        .iter()
        .map(|key| format!("\n| `{}` | {} | {} |", key.name, key.default, key.meaning));
    let table: String = std::iter::once("| key | default | meaning |\n|---|---|---|".to_owned())
        .chain(rows)
        .collect();
    assert_eq!(
        listed,
        Some(&*table),
        "docs/trigger.md, between {begin} and {end}, wants:\n{table}\n"
    );
}

#[test]
fn every_listed_key_is_read() {
    for key in KEYS.iter().filter(|key| key.name != "identityOwner") {
        assert!(
            trigger(&[(key.name, "\u{1}")]).is_err(),
            "{} is not looked at",
            key.name
        );
    }
}

fn metadata() -> impl Strategy<Value = HashMap<String, String>> {
    let keys: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    let key = prop_oneof![4 => prop::sample::select(keys), 1 => any::<String>()];
    let near = prop::sample::select(vec![
        "orders",
        ARN,
        "eu-west-1",
        "2",
        "-1",
        "openShards",
        "http://h:1",
        "arn:aws:iam::111122223333:role/r",
        "",
    ]);
    let value = prop_oneof![3 => near.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[0-9a-z:/.@ -]{0,40}"];
    prop::collection::hash_map(key, value, 0..8)
}

proptest! {
    #[test]
    fn any_metadata_gives_a_trigger_or_a_line_for_each_wrong_key(metadata in metadata(), region in prop::bool::ANY) {
        match Trigger::parse(&metadata, region.then_some("eu-west-1")) {
            Ok(trigger) => {
                prop_assert!(trigger.shard_count >= 1);
                let name = trigger.metric_name();
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{}", name);
            }
            Err(Error::InvalidMetadata(wrong)) => {
                prop_assert!(!wrong.is_empty());
                let text = Error::InvalidMetadata(wrong.clone()).to_string();
                prop_assert_eq!(text.lines().count(), wrong.len());
                prop_assert!(text.len() < 16_000);
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn unknown_keys_change_nothing(metadata in metadata(), unknown in "x-[a-zA-Z]{1,20}", value in any::<String>()) {
        let mut more = metadata.clone();
        more.insert(unknown, value);
        let outcome = |metadata| Trigger::parse(metadata, None).map_err(|error| error.to_string());
        prop_assert_eq!(outcome(&metadata), outcome(&more));
    }
}
