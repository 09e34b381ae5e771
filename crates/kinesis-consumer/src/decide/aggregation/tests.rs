use proptest::{collection::vec, option, prelude::*};
use rstest::rstest;

use super::*;

/// `messages.proto`.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    partition_keys: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    explicit_hash_keys: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

fn carrier(data: impl Into<Bytes>) -> Record {
    let number = "49590338271490256608559692538361571095921575989136588898";
    let mut record = Record::new(number.parse().expect("digits"), "a", data);
    record.arrival = Some(jiff::Timestamp::UNIX_EPOCH);
    record
}

fn wrap(message: &[u8]) -> Vec<u8> {
    [&MAGIC, message, &Md5::digest(message)[..]].concat()
}

/// As the KPL does: each key once in its table.
fn encode(records: &[(String, Option<u128>, Vec<u8>)]) -> Vec<u8> {
    let mut aggregate = AggregatedRecord::default();
    for (partition_key, explicit_hash_key, data) in records {
        let explicit =
            explicit_hash_key.map(|key| place(&mut aggregate.explicit_hash_keys, key.to_string()));
        let record = UserRecord {
            partition_key: Some(place(&mut aggregate.partition_keys, partition_key.clone())),
            explicit_hash_key: explicit,
            data: Some(data.clone().into()),
        };
        aggregate.records.push(record);
    }
    wrap(&aggregate.encode_to_vec())
}

fn place(table: &mut Vec<Bytes>, key: String) -> u64 {
    let at = table
        .iter()
        .position(|known| *known == key)
        .unwrap_or_else(|| {
            table.push(key.into());
            table.len() - 1
        });
    at as u64
}

/// What is delivered, and what is set aside.
fn taken_apart(data: impl Into<Bytes>, range: Option<HashRange>) -> (Vec<Record>, Option<Unfit>) {
    match open(carrier(data), range) {
        Carried::Plain(record) => (vec![record], None),
        Carried::Unfit(unfit) => (Vec::new(), Some(unfit)),
        Carried::Users(mut aggregate) => {
            let users = aggregate.left();
            let mut out = vec![carrier("before")];
            // In pieces as well as at once.
            aggregate.take(1, &mut out);
            aggregate.take(users, &mut out);
            assert_eq!((aggregate.left(), out.len()), (0, users + 1));
            assert_eq!(out.remove(0), carrier("before"), "what was there stays");
            (out, None)
        }
    }
}

fn expanded(data: impl Into<Bytes>, range: Option<HashRange>) -> Vec<Record> {
    taken_apart(data, range).0
}

#[test]
fn what_an_aggregate_will_take_is_known_before_it_is_taken_apart() {
    let users = vec![("k".repeat(250), Some(12_345), b"data".to_vec()); 100];
    let (count, texts) = user_records(&carrier(encode(&users)));
    assert_eq!(count, 100);
    assert!((255..265).contains(&texts), "{texts}");
    assert_eq!(user_records(&carrier("plain")), (0, 0));
}

/// Written byte by byte, not by our own encoder: fields as `messages.proto` numbers them, a tag
/// included.
#[test]
fn reads_what_the_kpl_writes() {
    let message = [
        &[0x0a, 2][..],
        b"pk", // partition_key_table
        &[0x12, 1],
        b"7", // explicit_hash_key_table
        &[0x1a, 7, 0x08, 0, 0x1a, 3],
        b"one",
        &[0x1a, 16, 0x08, 0, 0x10, 0, 0x1a, 3],
        b"two",
        &[0x22, 5, 0x0a, 1],
        b"k",
        &[0x12, 0],
    ]
    .concat();
    let got = expanded(wrap(&message), None);
    let seen: Vec<_> = got
        .iter()
        .map(|record| {
            (
                record.sub_sequence_number,
                &record.data[..],
                record.explicit_hash_key.as_deref(),
            )
        })
        .collect();
    assert_eq!(seen, [(0, &b"one"[..], None), (1, &b"two"[..], Some("7"))]);
    assert!(
        got.iter()
            .all(|record| record.aggregated && record.partition_key == "pk")
    );
    assert_eq!(got[1].sequence_number, carrier("").sequence_number);
    assert_eq!(got[1].arrival, carrier("").arrival);
}

#[test]
fn data_are_slices_of_the_carriers_data() {
    let data = Bytes::from(encode(&[("a".into(), None, vec![7; 100])]));
    let within = data.as_ptr_range();
    let got = expanded(data, None);
    assert!(within.contains(&got[0].data.as_ptr()));
}

/// The tables may stand anywhere.
#[test]
fn a_table_behind_its_records_is_read() {
    let user = [&[0x1a, 5, 0x08, 0, 0x1a, 1][..], b"x"].concat();
    let key = [&[0x0a, 2][..], b"pk"].concat();
    let message = [&user[..], &key, &user].concat();
    let got = expanded(wrap(&message), Some(EVERY_HASH_KEY));
    let seen: Vec<_> = got.iter().map(|record| &*record.partition_key).collect();
    assert_eq!(seen, ["pk", "pk"]);
    let nobodys = HashRange { start: 1, end: 1 };
    let (_, unfit) = taken_apart(wrap(&message), Some(nobodys));
    assert!(matches!(
        unfit.expect("unfit").reason,
        UnfitAggregate::Misplaced {
            first: 0,
            records: 2
        }
    ));
}

fn raw(
    partition_key: Option<u64>,
    explicit_hash_key: Option<u64>,
    data: Option<&'static [u8]>,
    hash: &str,
) -> Vec<u8> {
    let record = UserRecord {
        partition_key,
        explicit_hash_key,
        data: data.map(Bytes::from_static),
    };
    let fine = UserRecord {
        partition_key: Some(0),
        explicit_hash_key: None,
        data: Some(Bytes::from_static(b"fine")),
    };
    let aggregate = AggregatedRecord {
        partition_keys: vec!["a".into()],
        explicit_hash_keys: vec![Bytes::copy_from_slice(hash.as_bytes())],
        records: vec![fine, record],
    };
    wrap(&aggregate.encode_to_vec())
}

#[rstest]
#[case::plain(b"hello".to_vec())]
#[case::empty(Vec::new())]
#[case::magic_alone(MAGIC.to_vec())]
#[case::too_short([&MAGIC[..], &[0; 15]].concat())]
#[case::wrong_digest([&MAGIC[..], &[0; 16]].concat())]
#[case::digest_of_nothing(wrap(b""))]
#[case::no_protobuf(wrap(b"\xff\xff\xff"))]
#[case::no_partition_key(raw(None, None, Some(b"x"), "7"))]
#[case::no_data(raw(Some(0), None, None, "7"))]
fn what_kcl_takes_for_no_aggregate_is_delivered_as_it_came(#[case] data: Vec<u8>) {
    let nobodys = HashRange { start: 1, end: 1 };
    for range in [None, Some(nobodys)] {
        assert_eq!(expanded(data.clone(), range), [carrier(data.clone())]);
    }
}

#[rstest]
#[case::partition_key_out_of_the_table(raw(Some(1), None, Some(b"x"), "7"))]
#[case::partition_key_far_out_of_the_table(raw(Some(u64::MAX), None, Some(b"x"), "7"))]
#[case::hash_key_out_of_the_table(raw(Some(0), Some(1), Some(b"x"), "7"))]
#[case::hash_key_no_number(raw(Some(0), Some(0), Some(b"x"), "seven"))]
#[case::no_user_records(wrap(b"\x0a\x02pk"))]
fn what_cannot_be_taken_apart_is_set_aside_whole(#[case] data: Vec<u8>) {
    let (out, unfit) = taken_apart(data.clone(), Some(EVERY_HASH_KEY));
    let unfit = unfit.expect("unfit");
    assert_eq!(out, []);
    assert!(
        matches!(unfit.reason, UnfitAggregate::Malformed(_)),
        "{unfit:?}"
    );
    assert_eq!((unfit.record, unfit.users), (carrier(data), 1));
}

#[rstest]
#[case::unused_hash_key_no_number(raw(Some(0), None, Some(b"x"), "seven"))]
#[case::partition_key_no_utf8(wrap(b"\x0a\x02\xff\xfe\x1a\x05\x08\x00\x1a\x01x"))]
fn no_stricter_than_kcl(#[case] data: Vec<u8>) {
    let got = expanded(data, Some(EVERY_HASH_KEY));
    assert!(got.iter().all(|record| record.aggregated), "{got:?}");
    assert_eq!(got.last().expect("records").data, "x");
}

const EVERY_HASH_KEY: HashRange = HashRange {
    start: 0,
    end: u128::MAX,
};

#[test]
fn one_user_record_of_another_shard_sets_the_aggregate_aside() {
    // MD5 of "a" is 0x0cc1…, of "b" 0x92eb….
    let low = HashRange {
        start: 0,
        end: u128::MAX / 2,
    };
    let high = HashRange {
        start: u128::MAX / 2 + 1,
        end: u128::MAX,
    };
    let record = |key: &str, explicit| (key.to_owned(), explicit, b"data".to_vec());
    let count = |records: &[_], range| expanded(encode(records), Some(range)).len();
    assert_eq!(count(&[record("a", None), record("a", None)], low), 2);
    assert_eq!(count(&[record("a", None), record("a", None)], high), 0);
    assert_eq!(
        count(&[record("a", None), record("b", Some(0))], low),
        2,
        "the explicit hash key decides"
    );
    assert_eq!(
        count(&[record("a", None), record("a", Some(u128::MAX))], low),
        0
    );
    let edges = [record("b", Some(low.start)), record("b", Some(low.end))];
    assert_eq!(count(&edges, low), 2, "both ends belong to the range");

    let straddling = encode(&[record("a", None), record("b", None), record("a", None)]);
    let (_, unfit) = taken_apart(straddling.clone(), Some(low));
    let unfit = unfit.expect("unfit");
    assert_eq!(
        unfit.reason,
        UnfitAggregate::Misplaced {
            first: 1,
            records: 3
        }
    );
    assert_eq!((unfit.users, &unfit.record.data[..]), (3, &straddling[..]));
    assert_eq!(
        unfit.record.sub_sequence_number, 2,
        "a checkpoint there covers all of it"
    );
    assert_eq!(last_sub_sequence_number(&straddling.clone().into()), 2);
    assert_eq!(expanded(straddling, None).len(), 3, "as a setting wants it");

    // Beyond 128 bits is beyond every shard.
    let beyond = raw(
        Some(0),
        Some(0),
        Some(b"x"),
        "340282366920938463463374607431768211456",
    );
    let (_, unfit) = taken_apart(beyond, Some(EVERY_HASH_KEY));
    assert!(matches!(
        unfit.expect("unfit").reason,
        UnfitAggregate::Misplaced { first: 1, .. }
    ));
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        records in vec(("[a-c\u{e9}]{0,3}", option::of(any::<u128>()), vec(any::<u8>(), 0..64)), 1..40),
    ) {
        let got = expanded(encode(&records), Some(EVERY_HASH_KEY));
        let sub_sequence_numbers: Vec<_> = got.iter().map(|record| record.sub_sequence_number).collect();
        prop_assert_eq!(sub_sequence_numbers, (0..records.len() as u64).collect::<Vec<_>>());
        let got: Vec<_> = got
            .into_iter()
            .map(|record| {
                let hash_key = record.explicit_hash_key.map(|key| key.parse().expect("a number"));
                (record.partition_key, hash_key, record.data.to_vec())
            })
            .collect();
        prop_assert_eq!(got, records);
    }

    #[test]
    fn never_panics(bytes in vec(any::<u8>(), 0..200), start: u128, end: u128) {
        let range = Some(HashRange { start: start.min(end), end: start.max(end) });
        prop_assert_eq!(expanded(bytes.clone(), range).len(), 1);
        prop_assert_eq!(expanded([&MAGIC[..], &bytes].concat(), range).len(), 1);
        // A right digest lets anything into the decoder.
        let _ = expanded(wrap(&bytes), range);
    }

    #[test]
    fn damaged_aggregates_never_panic(
        records in vec(("[a-c]{0,3}", option::of(any::<u128>()), vec(any::<u8>(), 0..16)), 1..8),
        at: prop::sample::Index,
        with: u8,
    ) {
        let whole = encode(&records);
        let mut message = whole[MAGIC.len()..whole.len() - DIGEST_LEN].to_vec();
        let at = at.index(message.len());
        message[at] = with;
        let _ = expanded(wrap(&message), Some(EVERY_HASH_KEY));
    }
}
