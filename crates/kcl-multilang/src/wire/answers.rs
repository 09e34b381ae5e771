//! What the child's lines mean.

use serde_json::{Map, Value};

/// A message of the child's.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done with what it was asked.
    Status {
        /// The name of what it was asked.
        response_for: String,
    },
    /// Records up to there are processed.
    Checkpoint(Asked),
    /// A message of a client library that is too old: how that is known.
    TooOld(&'static str),
}

/// A checkpoint, as the child asked for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// `None`: the last record that was delivered.
    pub sequence_number: Option<String>,
    /// As it came: a number, a text, or null.
    pub sub_sequence_number: Value,
}

/// The message in a line; `None`: it is none, as of a program that prints.
///
/// Keys may come in any order, with others beside them, and with text after the object.
pub fn parse(line: &str) -> Option<Answer> {
    if !line.starts_with('{') {
        return None;
    }
    let first = serde_json::Deserializer::from_str(line)
        .into_iter::<Map<String, Value>>()
        .next();
    let mut object = first?.ok()?;
    match object.get("action")?.as_str()? {
        "status" => Some(Answer::Status {
            response_for: text(object.remove("responseFor")).unwrap_or_default(),
        }),
        // Read as today's, it would stand for all that was delivered.
        "checkpoint" if object.contains_key("checkpoint") => Some(Answer::TooOld(
            "its checkpoints are those of amazon_kclpy before 1.4 and of old ports",
        )),
        "checkpoint" => Some(Answer::Checkpoint(Asked {
            sequence_number: text(object.remove("sequenceNumber")),
            sub_sequence_number: object.remove("subSequenceNumber").unwrap_or_default(),
        })),
        _ => None,
    }
}

/// A text, or a number as its digits.
fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

impl Asked {
    /// The sub-sequence number: 0 where none is given. `None`: what is given is no whole number.
    pub fn sub_sequence(&self) -> Option<u64> {
        match &self.sub_sequence_number {
            Value::Null => Some(0),
            Value::String(digits) => digits.parse().ok(),
            number => number.as_u64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::wire::lines::Lines;

    fn status(of: &str) -> Option<Answer> {
        let response_for = of.to_owned();
        Some(Answer::Status { response_for })
    }

    fn checkpoint(number: Option<&str>, sub: Value) -> Option<Answer> {
        Some(Answer::Checkpoint(Asked {
            sequence_number: number.map(str::to_owned),
            sub_sequence_number: sub,
        }))
    }

    /// As Python, Node, Ruby and .NET write them.
    #[rstest]
    #[case::python(
        r#"{"action": "status", "responseFor": "processRecords"}"#,
        status("processRecords")
    )]
    #[case::node(
        r#"{"action":"status","responseFor":"initialize"}"#,
        status("initialize")
    )]
    #[case::any_order(
        r#"{"responseFor":"leaseLost","action":"status"}"#,
        status("leaseLost")
    )]
    #[case::more(
        r#"{"action":"status","responseFor":"shardEnded","took":3,"x":{}}"#,
        status("shardEnded")
    )]
    #[case::text_after(
        r#"{"action":"status","responseFor":"initialize"} bye {"#,
        status("initialize")
    )]
    #[case::python_all(
        r#"{"action": "checkpoint", "sequenceNumber": null, "subSequenceNumber": null}"#,
        checkpoint(None, Value::Null)
    )]
    #[case::python_sub(
        r#"{"action": "checkpoint", "sequenceNumber": "4968", "subSequenceNumber": 3}"#,
        checkpoint(Some("4968"), json!(3))
    )]
    #[case::node_checkpoint(
        r#"{"action":"checkpoint","sequenceNumber":"4968"}"#,
        checkpoint(Some("4968"), Value::Null)
    )]
    #[case::node_all(r#"{"action":"checkpoint"}"#, checkpoint(None, Value::Null))]
    #[case::ruby(
        r#"{"action":"checkpoint","sequenceNumber":null}"#,
        checkpoint(None, Value::Null)
    )]
    #[case::dot_net(
        r#"{"action":"checkpoint","error":null,"sequenceNumber":"4968"}"#,
        checkpoint(Some("4968"), Value::Null)
    )]
    #[case::number(
        r#"{"action":"checkpoint","sequenceNumber":49680604410000000000000000000000000000000000000000000042}"#,
        checkpoint(Some("49680604410000000000000000000000000000000000000000000042"), Value::Null)
    )]
    #[case::sub_text(
        r#"{"action":"checkpoint","sequenceNumber":"4968","subSequenceNumber":"3"}"#,
        checkpoint(Some("4968"), json!("3"))
    )]
    #[case::no_name(r#"{"action":"status"}"#, status(""))]
    fn messages_are_read_as_clients_write_them(#[case] line: &str, #[case] want: Option<Answer>) {
        assert_eq!(parse(line), want);
    }

    #[rstest]
    #[case("null")]
    #[case("print: hello")]
    #[case("[]")]
    #[case("42")]
    #[case("{")]
    #[case("{}")]
    #[case(r#"{"action":null}"#)]
    #[case(r#"{"action":"Status","responseFor":"initialize"}"#)]
    #[case(r#"{"action":"done"}"#)]
    #[case(r#"x{"action":"status","responseFor":"initialize"}"#)]
    fn what_is_no_message_is_passed_over(#[case] line: &str) {
        assert_eq!(parse(line), None);
    }

    #[test]
    fn a_line_of_brackets_is_no_message() {
        assert_eq!(parse(&"{\"a\":".repeat(10_000)), None);
    }

    #[test]
    fn the_checkpoints_of_old_clients_are_refused() {
        let old = parse(r#"{"action":"checkpoint","checkpoint":"4968"}"#);
        assert!(matches!(old, Some(Answer::TooOld(_))), "{old:?}");
    }

    #[rstest]
    #[case(Value::Null, Some(0))]
    #[case(json!(3), Some(3))]
    #[case(json!("3"), Some(3))]
    #[case(json!(-1), None)]
    #[case(json!(1.5), None)]
    #[case(json!("x"), None)]
    #[case(json!({}), None)]
    fn sub_sequence_numbers_are_whole(#[case] value: Value, #[case] want: Option<u64>) {
        let asked = Asked {
            sequence_number: None,
            sub_sequence_number: value,
        };
        assert_eq!(asked.sub_sequence(), want);
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".*", open in "[{}\\[\"a-z:, ]{0,200}") {
            for line in [line.clone(), open.clone(), format!("{{{open}"), format!("{{\"action\":{line}")] {
                if let Some(Answer::Checkpoint(asked)) = parse(&line) {
                    let _ = asked.sub_sequence();
                }
            }
        }

        /// However the pipe cuts them, whatever stands between them and however lines end.
        #[test]
        fn messages_come_out_whole_and_in_their_order(
            said in prop::collection::vec((any::<u16>(), "[^\r\n]{0,40}", 0..4usize), 0..20),
            cuts in prop::collection::vec(1..50usize, 1..20),
        ) {
            let (mut bytes, mut want) = (Vec::new(), Vec::new());
            for (number, junk, kind) in &said {
                let end = ["\n", "\r", "\r\n", "\n\n"][kind % 4];
                let line = match kind {
                    0 => junk.clone(),
                    1 => format!("{{\"action\": \"status\", \"responseFor\": \"{number}\"}}"),
                    2 => format!("  {{\"sequenceNumber\":{number},\"action\":\"checkpoint\"}} {junk}"),
                    _ => format!("\u{fffd}{junk}"),
                };
                want.extend(parse(line.trim()));
                bytes.extend_from_slice(format!("{line}{end}").as_bytes());
            }
            let (mut lines, mut got, mut rest) = (Lines::default(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                lines.push(piece, |line| got.extend(parse(&line.text)));
                if behind.is_empty() { break }
                rest = behind;
            }
            let statuses = said.iter().filter(|(_, _, kind)| *kind == 1).count();
            let is_status = |it: &&Answer| matches!(it, Answer::Status { .. });
            let heard = got.iter().filter(is_status).count();
            prop_assert!(heard >= statuses, "{} of {}", heard, statuses);
            prop_assert_eq!(got, want);
        }
    }
}
