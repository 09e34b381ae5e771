use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[test]
fn checkpoints_are_ordered_as_kcl_orders_them() {
    let texts = [
        ("AT_TIMESTAMP", 0),
        ("TRIM_HORIZON", 0),
        ("LATEST", 0),
        ("0", 0),
        ("9", 0),
        ("10", 0),
        ("10", 1),
        (
            "49680483476475808707584783019624565094204474651800764418",
            0,
        ),
        // 2^186, the largest there is: beyond 128 bits.
        (
            "98079714615416886934934209737619787751599303819750539264",
            0,
        ),
        (
            "98079714615416886934934209737619787751599303819750539264",
            12,
        ),
        ("SHARD_END", 0),
    ];
    let checkpoints = texts.map(|(text, sub)| Checkpoint::parse(text, sub).expect("a checkpoint"));
    assert!(checkpoints.is_sorted_by(|a, b| a < b), "{checkpoints:?}");
    for (checkpoint, (text, sub)) in checkpoints.iter().zip(texts) {
        assert_eq!(
            (checkpoint.as_str(), checkpoint.sub_sequence_number()),
            (text, sub)
        );
    }
}

#[rstest]
#[case("")]
#[case("-1")]
#[case("1 ")]
#[case("1.5")]
#[case("shard_end")]
#[case("\u{661}")]
fn what_is_no_number_is_refused(#[case] text: &str) {
    let error = text
        .parse::<SequenceNumber>()
        .expect_err("no sequence number");
    assert_eq!(error, InvalidSequenceNumber(text.to_owned()));
    assert!(Checkpoint::parse(text, 0).is_err());
}

#[rstest]
#[case("0", "0")]
#[case("000", "0")]
#[case("0042", "42")]
fn leading_zeros_do_not_count(#[case] text: &str, #[case] want: &str) {
    let number: SequenceNumber = text.parse().expect("digits");
    assert_eq!(number.as_str(), want);
    assert_eq!(number, want.parse().expect("digits"));
}

#[test]
fn checkpoints_show_the_sub_sequence_number_where_there_is_one() {
    let shown = |text, sub| {
        Checkpoint::parse(text, sub)
            .expect("a checkpoint")
            .to_string()
    };
    assert_eq!(shown("42", 0), "42");
    assert_eq!(shown("42", 3), "42.3");
    assert_eq!(shown("SHARD_END", 0), "SHARD_END");
}

proptest! {
    #[test]
    fn numbers_are_ordered_by_value(a in "[0-9]{1,57}", b in "[0-9]{1,57}") {
        let number = |text: &str| text.parse::<SequenceNumber>().expect("digits");
        // Padded to one length, digits are ordered as their values are.
        prop_assert_eq!(number(&a).cmp(&number(&b)), format!("{a:0>57}").cmp(&format!("{b:0>57}")));
    }

    #[test]
    fn small_numbers_are_ordered_as_integers(a: u128, b: u128) {
        let number = |value: u128| value.to_string().parse::<SequenceNumber>().expect("digits");
        prop_assert_eq!(number(a).cmp(&number(b)), a.cmp(&b));
    }
}
