//! Constraints of AWS's API model, with the model's own way of wording what failed.

use crate::protocol::AwsError;

/// Collects what failed, as AWS answers with all of it at once.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    failed: Vec<String>,
}

impl Constraints {
    fn fail(&mut self, value: &str, field: &str, wanted: &str) {
        self.failed.push(format!(
            "Value {value} at '{field}' failed to satisfy constraint: Member must {wanted}"
        ));
    }

    pub(crate) fn required(&mut self, field: &str, given: bool) {
        if !given {
            self.fail("null", field, "not be null");
        }
    }

    pub(crate) fn length(&mut self, field: &str, value: &str, least: usize, most: usize) {
        if value.len() < least {
            self.fail(
                &quoted(value),
                field,
                &format!("have length greater than or equal to {least}"),
            );
        }
        if value.len() > most {
            self.fail(
                &quoted(value),
                field,
                &format!("have length less than or equal to {most}"),
            );
        }
    }

    pub(crate) fn range(&mut self, field: &str, value: i64, least: i64, most: i64) {
        if value < least {
            self.fail(
                &quoted(&value.to_string()),
                field,
                &format!("have value greater than or equal to {least}"),
            );
        }
        if value > most {
            self.fail(
                &quoted(&value.to_string()),
                field,
                &format!("have value less than or equal to {most}"),
            );
        }
    }

    pub(crate) fn one_of(&mut self, field: &str, value: &str, members: &[&str]) {
        if !members.contains(&value) {
            self.fail(
                &quoted(value),
                field,
                &format!("satisfy enum value set: [{}]", members.join(", ")),
            );
        }
    }

    pub(crate) fn stream_name(&mut self, field: &str, value: &str) {
        self.name(field, value);
    }

    pub(crate) fn shard_id(&mut self, field: &str, value: &str) {
        self.name(field, value);
    }

    fn name(&mut self, field: &str, value: &str) {
        if value.is_empty()
            || !value
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it))
        {
            self.fail(
                &quoted(value),
                field,
                "satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
            );
        }
        self.length(field, value, 1, 128);
    }

    pub(crate) fn stream_arn(&mut self, field: &str, value: &str) {
        if arn_parts(value).is_none() {
            self.fail(
                &quoted(value),
                field,
                "satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+",
            );
        }
        self.length(field, value, 1, 2048);
    }

    pub(crate) fn consumer_name(&mut self, field: &str, value: &str) {
        self.name(field, value);
    }

    pub(crate) fn consumer_arn(&mut self, field: &str, value: &str) {
        if consumer_arn_parts(value).is_none() {
            self.fail(
                &quoted(value),
                field,
                "satisfy regular expression pattern: \
                 ^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+",
            );
        }
        self.length(field, value, 1, 2048);
    }

    /// A hash key or sequence number.
    pub(crate) fn number(&mut self, field: &str, value: &str, most_digits: usize) {
        let digits = !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit());
        if !digits || (value.len() > 1 && value.starts_with('0')) || value.len() > most_digits {
            self.fail(
                &quoted(value),
                field,
                &format!(
                    "satisfy regular expression pattern: 0|([1-9]\\d{{0,{}}})",
                    most_digits - 1
                ),
            );
        }
    }

    pub(crate) fn finish(self) -> Result<(), AwsError> {
        if self.failed.is_empty() {
            Ok(())
        } else {
            Err(self.error())
        }
    }

    /// For what is known to have failed.
    pub(crate) fn error(self) -> AwsError {
        let count = self.failed.len();
        let plural = if count == 1 { "" } else { "s" };
        AwsError::new(
            "ValidationException",
            format!(
                "{count} validation error{plural} detected: {}",
                self.failed.join("; ")
            ),
        )
    }
}

/// A value may be long: its start says enough.
fn quoted(value: &str) -> String {
    let shown: String = value.chars().take(200).collect();
    format!("'{shown}'")
}

/// Region, account and name of a stream's ARN.
pub(crate) fn arn_parts(arn: &str) -> Option<(&str, &str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (head, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let name = resource.strip_prefix("stream/")?;
    let good = head == "arn"
        && partition.starts_with("aws")
        && service == "kinesis"
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|it| it.is_ascii_digit())
        && !name.is_empty()
        && !name.contains(['/', ' ']);
    good.then_some((region, account, name))
}

/// The stream's ARN, the consumer's name and the second in which it was registered.
pub(crate) fn consumer_arn_parts(arn: &str) -> Option<(&str, &str, u64)> {
    let (stream, consumer) = arn.split_once("/consumer/")?;
    let (name, second) = consumer.rsplit_once(':')?;
    arn_parts(stream)?;
    let good = second.bytes().all(|it| it.is_ascii_digit()) && !name.is_empty();
    Some((stream, name, second.parse().ok().filter(|_| good)?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn all_that_failed_is_said_at_once() {
        let mut constraints = Constraints::default();
        constraints.stream_name("streamName", "a b");
        constraints.required("shardCount", false);
        constraints.range("limit", 0, 1, 10);
        assert_eq!(
            constraints.finish().unwrap_err().message,
            "3 validation errors detected: Value 'a b' at 'streamName' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: [a-zA-Z0-9_.-]+; Value null at 'shardCount' failed to satisfy constraint: Member must not be null; \
             Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"
        );
    }

    #[rstest]
    #[case("arn:aws:kinesis:us-east-1:111122223333:stream/s", Some(("us-east-1", "111122223333", "s")))]
    #[case("arn:aws-cn:kinesis:cn-north-1:111122223333:stream/a.b", Some(("cn-north-1", "111122223333", "a.b")))]
    #[case("arn:aws:kinesis:us-east-1:111122223333:stream/s/consumer/c:1", None)]
    #[case("arn:aws:dynamodb:us-east-1:111122223333:table/s", None)]
    #[case("arn:aws:kinesis:us-east-1:1111:stream/s", None)]
    #[case("s", None)]
    fn arns(#[case] arn: &str, #[case] wanted: Option<(&str, &str, &str)>) {
        assert_eq!(arn_parts(arn), wanted);
    }
}
