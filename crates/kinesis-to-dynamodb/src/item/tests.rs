//! What becomes of each kind of JSON, and properties over all of it, judged by the emulator's
//! rules, which were measured against DynamoDB.

use bytes::Bytes;
use dynoxide::types::{AttributeValue as Peer, item_size};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::number::tests::normal as normal_number;

const SHARD: &str = "shardId-000000000000";

fn shape() -> Shape {
    Shape {
        key: "email".into(),
        processed_by: "pod-1".into(),
    }
}

fn record(data: impl Into<Bytes>) -> Record {
    Record {
        sequence_number: "49590338271490256608559692538361571095921575989136588898"
            .parse()
            .unwrap(),
        sub_sequence_number: 0,
        aggregated: false,
        partition_key: "ann@example.com".into(),
        explicit_hash_key: None,
        data: data.into(),
        arrival: Some("2026-11-23T12:00:00.5Z".parse().unwrap()),
    }
}

fn item_of(data: impl Into<Bytes>) -> Result<Item, Rejected> {
    shape().item(SHARD, &record(data))
}

/// Lists around a number, `levels` of them.
fn nested(levels: usize) -> String {
    format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels))
}

fn peer(value: &AttributeValue) -> Peer {
    match value {
        AttributeValue::S(text) => Peer::S(text.clone()),
        AttributeValue::N(text) => Peer::N(text.clone()),
        AttributeValue::Bool(value) => Peer::BOOL(*value),
        AttributeValue::Null(value) => Peer::NULL(*value),
        AttributeValue::L(values) => Peer::L(values.iter().map(peer).collect()),
        AttributeValue::M(fields) => Peer::M(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), peer(value)))
                .collect(),
        ),
        other => panic!("never made: {other:?}"),
    }
}

#[test]
fn the_tutorials_record_is_the_tutorials_item() {
    let item = item_of(r#"{"name":"Ann","city":"Oslo"}"#).unwrap();
    let expected = [
        ("email", "ann@example.com"),
        ("name", "Ann"),
        ("city", "Oslo"),
        ("processed_by", "pod-1"),
        (
            "kinesis_position",
            "049590338271490256608559692538361571095921575989136588898.00000000000000000000",
        ),
        ("kinesis_shard", SHARD),
        ("kinesis_arrived", "2026-11-23T12:00:00.500Z"),
    ];
    assert_eq!(
        item,
        expected
            .map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())))
            .into()
    );
}

#[test]
fn each_json_type_has_its_own() {
    let item =
        item_of(r#"{"n":1.50,"t":true,"z":null,"e":"","l":[1,"a",{}],"m":{"x":[]},"d":1,"d":2}"#)
            .unwrap();
    let list = vec![
        AttributeValue::N("1".into()),
        AttributeValue::S("a".into()),
        AttributeValue::M(HashMap::new()),
    ];
    for (name, value) in [
        ("n", AttributeValue::N("1.50".into())),
        ("t", AttributeValue::Bool(true)),
        ("z", AttributeValue::Null(true)),
        ("e", AttributeValue::S(String::new())),
        ("l", AttributeValue::L(list)),
        (
            "m",
            AttributeValue::M(HashMap::from([("x".into(), AttributeValue::L(vec![]))])),
        ),
        ("d", AttributeValue::N("2".into())),
    ] {
        assert_eq!(item[name], value, "{name}");
    }
}

#[test]
fn a_record_without_a_time_of_arrival_has_none() {
    let timeless = Record {
        arrival: None,
        ..record(r#"{"kinesis_arrived":"9999"}"#)
    };
    let item = shape().item(SHARD, &timeless).unwrap();
    assert!(!item.contains_key(KINESIS_ARRIVED), "{item:?}");
}

#[test]
fn key_writer_and_position_win_over_fields_even_over_ones_that_could_not_be_stored() {
    let item =
        item_of(r#"{"email":1e999,"processed_by":{"":1},"kinesis_position":"9","name":"Ann"}"#)
            .unwrap();
    assert_eq!(item["email"], AttributeValue::S("ann@example.com".into()));
    assert_eq!(item["processed_by"], AttributeValue::S("pod-1".into()));
    assert_ne!(item["kinesis_position"], AttributeValue::S("9".into()));
    assert_eq!(item.len(), 6);
}

#[rstest]
#[case::empty("", "not_json")]
#[case::text("hello", "not_json")]
#[case::two(r#"{} {}"#, "not_json")]
#[case::half(r#"{"name":"An"#, "not_json")]
#[case::surrogate(r#"{"name":"\ud800"}"#, "not_json")]
#[case::array("[]", "not_an_object")]
#[case::null("null", "not_an_object")]
#[case::number("1", "not_an_object")]
#[case::digits(r#"{"a":123456789012345678901234567890123456789}"#, "number")]
#[case::range(r#"{"a":[1e126]}"#, "number")]
#[case::field(r#"{"":1}"#, "field_name")]
#[case::inner_field(r#"{"a":{"":1}}"#, "field_name")]
#[case::levels(nested(32), "too_deep")]
#[case::many_levels(nested(1000), "too_deep")]
fn what_cannot_be_stored_is_rejected(#[case] data: String, #[case] label: &str) {
    let rejected = item_of(data).unwrap_err();
    assert_eq!(rejected.label(), label, "{rejected}");
}

#[test]
fn bytes_that_are_no_text_are_rejected() {
    assert_eq!(
        item_of(&b"{\"a\":\"\xff\"}"[..]).unwrap_err().label(),
        "not_json"
    );
}

#[test]
fn nesting_is_allowed_as_deep_as_dynamodb_has_it() {
    assert!(item_of(nested(31)).is_ok());
    assert!(item_of(format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32))).is_ok());
}

#[test]
fn the_key_must_be_one_that_dynamodb_takes() {
    for (length, stored) in [(0, false), (1, true), (2048, true), (2049, false)] {
        let record = Record {
            partition_key: "k".repeat(length),
            ..record("{}")
        };
        assert_eq!(shape().item(SHARD, &record).is_ok(), stored, "{length}");
    }
}

#[test]
fn items_are_as_large_as_dynamodb_allows_and_no_larger() {
    let small: usize = item_size(
        &item_of(r#"{"a":""}"#)
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), peer(value)))
            .collect(),
    );
    let room = MAX_ITEM_BYTES - small;
    assert!(item_of(json!({"a": "x".repeat(room)}).to_string()).is_ok());
    let error = item_of(json!({"a": "x".repeat(room + 1)}).to_string()).unwrap_err();
    assert_eq!(error, Rejected::TooLarge(MAX_ITEM_BYTES + 1));
}

#[test]
fn reasons_never_tell_the_data() {
    for data in [
        r#"{"a":"secret"#,
        r#"{"secret":1e999}"#,
        "secret",
        r#""secret""#,
        r#"{"secret":secret}"#,
        r#"{"secret":{"":"secret"}}"#,
    ] {
        let reason = item_of(data).unwrap_err().to_string();
        assert!(!reason.contains("secret"), "{reason}");
    }
}

#[test]
fn a_sequence_number_beyond_kinesis_is_rejected_rather_than_sorted_wrongly() {
    let position = |digits: usize| Position {
        sequence_number: "9".repeat(digits).parse().unwrap(),
        sub_sequence_number: 0,
    };
    assert!(kinesis_position(&position(57)).is_ok());
    assert_eq!(
        kinesis_position(&position(58)),
        Err(Rejected::SequenceNumber(58))
    );
}

fn positions() -> impl Strategy<Value = Position> {
    let numbers = prop_oneof![
        "0|[1-9][0-9]{0,55}",
        "4959033827149025660855969253836157109592157598913658[0-9]{4}"
    ];
    (numbers, prop_oneof![0..20u64, any::<u64>()]).prop_map(|(number, sub)| Position {
        sequence_number: number.parse().unwrap(),
        sub_sequence_number: sub,
    })
}

fn values() -> impl Strategy<Value = Value> {
    let leaves = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "-?(0|[1-9][0-9]{0,42})(\\.[0-9]{1,10})?(e-?[0-9]{1,3})?"
            .prop_map(|text| serde_json::from_str(&text).unwrap()),
        ".{0,20}".prop_map(Value::from),
    ];
    leaves.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn positions_sort_as_the_stream_does(a in positions(), b in positions()) {
        prop_assert_eq!(kinesis_position(&a).unwrap().cmp(&kinesis_position(&b).unwrap()), a.cmp(&b));
    }

    #[test]
    fn no_data_makes_it_panic(data: Vec<u8>) {
        let _ = item_of(data);
    }

    #[test]
    fn every_object_is_stored_whole_or_rejected(value in values()) {
        let Ok(item) = item_of(json!({"a": value}).to_string()) else { return Ok(()) };
        let peer: HashMap<String, Peer> = item.iter().map(|(name, value)| (name.clone(), peer(value))).collect();
        prop_assert!(dynoxide::validation::validate_item_attribute_values(&peer).is_ok());
        prop_assert!(item_size(&peer) <= MAX_ITEM_BYTES);
        prop_assert_eq!(plain(&item["a"]), normal(value));
    }

    #[test]
    fn sizes_are_dynamodbs(value in values()) {
        let mut size = 0;
        if let Ok(attribute) = attribute(value, 0, &mut size) {
            prop_assert_eq!(size, peer(&attribute).size());
        }
    }
}

/// An attribute as JSON again.
fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => Value::from(text.as_str()),
        AttributeValue::N(text) => Value::from(normal_number(text)),
        AttributeValue::Bool(value) => Value::from(*value),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::L(values) => values.iter().map(plain).collect(),
        AttributeValue::M(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
        ),
        other => panic!("never made: {other:?}"),
    }
}

/// JSON with its numbers as DynamoDB spells them, as texts.
fn normal(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(normal_number(number.as_str())),
        Value::Array(values) => values.into_iter().map(normal).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, normal(value)))
                .collect(),
        ),
        other => other,
    }
}
