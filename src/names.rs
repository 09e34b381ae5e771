//! How AWS writes numbers, names and ARNs, and how people write durations. Each function parses a
//! text, or says whether it is valid.

use std::{ops::RangeInclusive, time::Duration};

pub(crate) use kinesis_edge::is_region;
use url::Url;

/// The longest ARN, name or endpoint that is kept, in bytes. No valid one is longer.
const LONGEST_URL: usize = 1024;

/// A whole number as Go's JSON reads an int64: no sign but `-`, no leading zeros, no fraction, no
/// exponent.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = digits == "0" || !digits.starts_with('0');
    let plain = canonical && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Is this what AWS takes as a stream's name?
pub(crate) fn is_stream_name(text: &str) -> bool {
    is_name(text, 1..=128, b"_.-")
}

/// Is this what DynamoDB takes as a table's name?
pub(crate) fn is_table_name(text: &str) -> bool {
    is_name(text, 3..=255, b"_.-")
}

fn is_name(text: &str, lengths: RangeInclusive<usize>, others: &[u8]) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || others.contains(&b);
    lengths.contains(&text.len()) && text.bytes().all(allowed)
}

/// A duration as people write it: `15s`, `1m30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// The same, written: `1m 30s`.
pub(crate) fn duration_text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A record's age: `45s`, `1m30s`; a bare number is seconds. At most a week, the longest lag that
/// is worth a threshold.
pub(crate) fn age(text: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let age = if plain {
        Duration::from_secs(text.parse().ok()?)
    } else {
        duration(text)?
    };
    (age <= LONGEST).then_some(age)
}

/// The region of a stream's ARN. The error says what the text is instead, in words that follow
/// "this is".
pub(crate) fn stream_arn_region(text: &str) -> Result<&str, String> {
    let arn = Arn::regional(text, "kinesis")?;
    match arn.resource.split('/').collect::<Vec<_>>().as_slice() {
        ["stream", name] if is_stream_name(name) => Ok(arn.region),
        ["stream", _] => Err("an ARN with a stream name that AWS does not take".to_owned()),
        ["stream", _, "consumer", ..] => {
            Err("the ARN of a stream's consumer: leave out \"/consumer/…\"".to_owned())
        }
        _ => Err("the ARN of something else than a stream".to_owned()),
    }
}

/// The region and the table's name of a DynamoDB table's ARN. The error as
/// [`stream_arn_region`]'s.
pub(crate) fn table_arn(text: &str) -> Result<(&str, &str), String> {
    let arn = Arn::regional(text, "dynamodb")?;
    match arn.resource.split('/').collect::<Vec<_>>().as_slice() {
        ["table", name] if is_table_name(name) => Ok((arn.region, name)),
        ["table", _] => Err("an ARN with a table name that DynamoDB does not take".to_owned()),
        ["table", _, kind, ..] => Err(format!(
            "an ARN of something of the table: leave out \"/{}/…\"",
            crate::error::shortened(kind)
        )),
        _ => Err("the ARN of something else than a table".to_owned()),
    }
}

/// Is this the ARN of an IAM role (a path is allowed)?
pub(crate) fn is_role_arn(text: &str) -> bool {
    let is_path_and_name = |text: &str| {
        let name = text.rsplit('/').next();
        text.len() <= 576
            && text.bytes().all(|b| b.is_ascii_graphic())
            && name.is_some_and(|name| is_name(name, 1..=64, b"_+=,.@-"))
    };
    Arn::parse(text).is_some_and(|arn| {
        let role = arn.resource.strip_prefix("role/");
        arn.service == "iam"
            && arn.region.is_empty()
            && is_account(arn.account)
            && role.is_some_and(is_path_and_name)
    })
}

/// Is this what `sts:AssumeRole` takes as an external id?
pub(crate) fn is_external_id(text: &str) -> bool {
    is_name(text, 2..=1224, b"_+=,.@:/-")
}

/// An endpoint that requests can be sent to: http or https, a host, and no more than a path, in
/// which nothing is encoded.
pub(crate) fn endpoint(text: &str) -> Option<Url> {
    // The WHATWG parser accepts "http:host", backslashes, and line breaks within; an endpoint
    // should look like what it is. What `%2f` is to a receiver, the policy's patterns cannot know.
    let plain = text.len() <= LONGEST_URL
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'%');
    let has_scheme = text.split_once("://").is_some_and(|(scheme, rest)| {
        ["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
            && !rest.starts_with('/')
    });
    // What may be of any length is not parsed.
    if !plain || !has_scheme {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let authority = text.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let bare = url.query().is_none() && url.fragment().is_none() && !authority.contains('@');
    (bare && url.has_host()).then_some(url)
}

struct Arn<'a> {
    service: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition) = (parts.next()?, parts.next()?);
        let parsed = Self {
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        };
        // aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-eusc …
        let known = partition == "aws"
            || partition.strip_prefix("aws-").is_some_and(|rest| {
                rest.len() <= 16
                    && rest.split('-').all(|word| {
                        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())
                    })
            });
        (arn == "arn" && known && text.len() <= 2048).then_some(parsed)
    }

    /// An ARN of this service, in a region and an account. The error says what it is instead.
    fn regional(text: &'a str, service: &str) -> Result<Self, String> {
        let arn = Self::parse(text).ok_or("no ARN")?;
        if arn.service != service {
            return Err(format!(
                "an ARN of another service, {:?}",
                crate::error::shortened(arn.service)
            ));
        }
        if !is_region(arn.region) {
            return Err("an ARN without a region".to_owned());
        }
        if !is_account(arn.account) {
            return Err("an ARN without a 12-digit account".to_owned());
        }
        Ok(arn)
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", Some(0))]
    #[case("-0", Some(0))]
    #[case("-1", Some(-1))]
    #[case("9223372036854775807", Some(i64::MAX))]
    #[case("-9223372036854775808", Some(i64::MIN))]
    #[case("9223372036854775808", None)]
    #[case("-9223372036854775809", None)]
    #[case("100000000000000000000000000000000000000000", None)]
    fn whole_numbers(#[case] text: &str, #[case] wanted: Option<i64>) {
        assert_eq!(whole_number(text), wanted);
    }

    #[test]
    fn no_whole_numbers() {
        let go_has = [
            "", "-", "--1", "+5", "05", "-01", "00", "-00", "2.0", "2.5", "1e2", "1E2", "0x10",
            "1_000",
        ];
        let more = [
            "\"5\"", "'5'", "null", "true", "[2]", "{}", "NaN", "Infinity", "a", "2 3", "2\n",
            "1,000", "0o7", "2/**/",
        ];
        let unicode = ["２", "٢", "\u{feff}2", "\u{200b}2", "−2", "²"];
        for text in [&go_has[..], &more, &unicode].concat() {
            assert_eq!(whole_number(text), None, "{text:?}");
        }
    }

    #[rstest]
    fn regions(
        #[values(
            "us-east-1",
            "eu-west-1",
            "ap-southeast-15",
            "us-gov-west-1",
            "cn-northwest-1",
            "us-isob-east-1",
            "eusc-de-east-1"
        )]
        text: &str,
    ) {
        assert!(is_region(text), "{text}");
    }

    #[rstest]
    fn no_regions(
        #[values(
            "",
            "us",
            "us-1",
            "us-east",
            "us-east-",
            "us-east-100",
            "US-EAST-1",
            "u-east-1",
            "us--1",
            "us-east-1a",
            "us-east-1.evil.example",
            "us_east_1",
            "-east-1",
            "us-east-1/",
            "us-east-1@x-1",
            "us-éast-1",
            "aa-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-1",
            "global",
            "*"
        )]
        text: &str,
    ) {
        assert!(!is_region(text), "{text}");
    }

    #[rstest]
    #[case("arn:aws:kinesis:eu-west-1:111122223333:stream/orders", "eu-west-1")]
    #[case(
        "arn:aws-cn:kinesis:cn-north-1:111122223333:stream/a.b_c-d",
        "cn-north-1"
    )]
    #[case(
        "arn:aws-us-gov:kinesis:us-gov-west-1:111122223333:stream/x",
        "us-gov-west-1"
    )]
    #[case(
        "arn:aws-iso-b:kinesis:us-isob-east-1:111122223333:stream/x",
        "us-isob-east-1"
    )]
    fn stream_arns(#[case] text: &str, #[case] region: &str) {
        assert_eq!(stream_arn_region(text), Ok(region));
    }

    #[rstest]
    #[case("orders", "no ARN")]
    #[case("arn:aws:kinesis:eu-west-1:111122223333", "no ARN")]
    #[case("ARN:aws:kinesis:eu-west-1:111122223333:stream/orders", "no ARN")]
    #[case("arn:azure:kinesis:eu-west-1:111122223333:stream/orders", "no ARN")]
    #[case("arn:aws-:kinesis:eu-west-1:111122223333:stream/orders", "no ARN")]
    #[case(
        "arn:aws:dynamodb:eu-west-1:111122223333:table/orders",
        "another service, \"dynamodb\""
    )]
    #[case(
        "arn:aws:firehose:eu-west-1:111122223333:deliverystream/orders",
        "another service, \"firehose\""
    )]
    #[case("arn:aws:kinesis::111122223333:stream/orders", "without a region")]
    #[case("arn:aws:kinesis:eu-west-1::stream/orders", "12-digit account")]
    #[case(
        "arn:aws:kinesis:eu-west-1:1111-2222-3333:stream/orders",
        "12-digit account"
    )]
    #[case("arn:aws:kinesis:eu-west-1:111122223333:stream/", "stream name")]
    #[case("arn:aws:kinesis:eu-west-1:111122223333:stream/a b", "stream name")]
    #[case(
        "arn:aws:kinesis:eu-west-1:111122223333:stream/orders/consumer/app:1700000000",
        "consumer"
    )]
    #[case("arn:aws:kinesis:eu-west-1:111122223333:orders", "something else")]
    #[case("arn:aws:kinesis:eu-west-1:111122223333:*/orders", "something else")]
    #[case(
        "arn:aws:kinesis:eu-west-1:111122223333:stream/orders/",
        "something else"
    )]
    fn no_stream_arns(#[case] text: &str, #[case] says: &str) {
        let instead = stream_arn_region(text).unwrap_err();
        assert!(instead.contains(says), "{instead}");
    }

    #[rstest]
    #[case(
        "arn:aws:dynamodb:eu-west-1:111122223333:table/billing",
        Ok(("eu-west-1", "billing"))
    )]
    #[case(
        "arn:aws-cn:dynamodb:cn-north-1:111122223333:table/a.b_c-d",
        Ok(("cn-north-1", "a.b_c-d"))
    )]
    #[case("billing", Err("no ARN"))]
    #[case(
        "arn:aws:kinesis:eu-west-1:111122223333:stream/orders",
        Err("another service, \"kinesis\"")
    )]
    #[case(
        "arn:aws:dynamodb::111122223333:table/billing",
        Err("without a region")
    )]
    #[case("arn:aws:dynamodb:eu-west-1::table/billing", Err("12-digit account"))]
    #[case("arn:aws:dynamodb:eu-west-1:111122223333:table/a", Err("table name"))]
    #[case(
        "arn:aws:dynamodb:eu-west-1:111122223333:table/billing/index/i",
        Err("leave out \"/index/…\"")
    )]
    #[case(
        "arn:aws:dynamodb:eu-west-1:111122223333:table/billing/stream/2026",
        Err("leave out \"/stream/…\"")
    )]
    #[case(
        "arn:aws:dynamodb:eu-west-1:111122223333:backup/b",
        Err("something else")
    )]
    fn table_arns(#[case] text: &str, #[case] want: Result<(&str, &str), &str>) {
        match (table_arn(text), want) {
            (Ok(found), want) => assert_eq!(Ok(found), want),
            (Err(instead), Err(says)) => assert!(instead.contains(says), "{instead}"),
            (Err(instead), Ok(_)) => panic!("{instead}"),
        }
    }

    #[rstest]
    #[case("arn:aws:iam::111122223333:role/keda", true)]
    #[case("arn:aws-cn:iam::111122223333:role/a/b/keda-x@y", true)]
    #[case("arn:aws:iam::111122223333:user/keda", false)]
    #[case("arn:aws:iam::111122223333:role/", false)]
    #[case("arn:aws:iam::111122223333:role/a/", false)]
    #[case("arn:aws:iam::111122223333:role/a b", false)]
    #[case("arn:aws:iam:eu-west-1:111122223333:role/keda", false)]
    #[case("arn:aws:iam::1111:role/keda", false)]
    #[case("arn:aws:sts::111122223333:assumed-role/keda/session", false)]
    #[case("keda", false)]
    fn role_arns(#[case] text: &str, #[case] right: bool) {
        assert_eq!(is_role_arn(text), right);
    }

    #[rstest]
    #[case("http://127.0.0.1:4566", Some("http://127.0.0.1:4566/"))]
    #[case(
        "HTTPS://Kinesis.Example.com/path",
        Some("https://kinesis.example.com/path")
    )]
    #[case("https://[::1]:1/", Some("https://[::1]:1/"))]
    #[case("http://0x7f.1", Some("http://127.0.0.1/"))]
    #[case("kinesis.example.com", None)]
    #[case("localhost:4566", None)]
    #[case("ftp://host", None)]
    #[case("file:///etc/passwd", None)]
    #[case("http://", None)]
    #[case("http:///path", None)]
    #[case("http:host", None)]
    #[case("http:\\\\host", None)]
    #[case("http://a\\@b", None)]
    #[case("http://user@host", None)]
    #[case("http://user:secret@host", None)]
    #[case("http://@host", None)]
    #[case("http://:@host", None)]
    #[case("http://host?x=1", None)]
    #[case("http://host?", None)]
    #[case("http://host#f", None)]
    #[case("http://ho st", None)]
    #[case("http://ho\nst", None)]
    #[case("http://host:99999", None)]
    #[case("http://hôte", None)]
    #[case("http://host/ok/..%2fadmin", None)]
    #[case("http://host/ok/%2E%2e/admin", None)]
    #[case("http://host/ok/..%5cadmin", None)]
    #[case("http://host/ok/..%252fadmin", None)]
    #[case("http://host/ok/../admin", Some("http://host/admin"))]
    fn endpoints(#[case] text: &str, #[case] wanted: Option<&str>) {
        assert_eq!(endpoint(text).as_ref().map(Url::as_str), wanted);
    }
}
