//! Patterns of the policy: `*` stands for any text, also for none. Everything else stands for
//! itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

/// Does `text` match a pattern in which `*` stands for any text?
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // Matching each part at its first occurrence leaves the most text for the parts after it.
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

/// Endpoints: `http://127.0.0.1:*`, `https://*.example.com/kinesis`. Scheme, host, port and path
/// are compared, never the text.
///
/// `*` may stand for the port or for any part of host and path. Without a port the scheme's own is
/// meant, without a path the root. A query is no part of an endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointPattern {
    scheme: String,
    host: String,
    /// `None`: any.
    port: Option<u16>,
    /// Without a slash at its end.
    path: String,
}

impl EndpointPattern {
    /// Does the pattern allow this endpoint?
    pub fn matches(&self, endpoint: &Url) -> bool {
        let Self {
            scheme,
            host,
            port,
            path,
        } = self;
        let bare = endpoint.query().is_none() && endpoint.fragment().is_none();
        bare && matches(path, endpoint.path().trim_end_matches('/'))
            && scheme == endpoint.scheme()
            && endpoint
                .host_str()
                .is_some_and(|asked| matches(host, asked))
            && (port.is_none() || *port == endpoint.port_or_known_default())
    }
}

impl FromStr for EndpointPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || {
            format!(
                "{text:?}: want scheme://host or scheme://host:port, http or https, with or without a path, * for any port or part of host or path"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (any_port, authority) = match authority.strip_suffix(":*") {
            Some(authority) => (true, authority),
            None => (false, authority),
        };
        // Parsed as endpoints are, so that 127.1 equals 127.0.0.1, and case makes no difference.
        let pattern = format!("{scheme}://{authority}{path}");
        let url = crate::names::endpoint(&pattern).ok_or_else(wanted)?;
        if any_port && url.port().is_some() {
            return Err(wanted());
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().ok_or_else(wanted)?.to_owned(),
            port: if any_port {
                None
            } else {
                url.port_or_known_default()
            },
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            host,
            port,
            path,
        } = self;
        match port {
            Some(port) => write!(f, "{scheme}://{host}:{port}{path}"),
            None => write!(f, "{scheme}://{host}:*{path}"),
        }
    }
}

impl TryFrom<String> for EndpointPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EndpointPattern> for String {
    fn from(pattern: EndpointPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// What `*` means, said plainly and slowly.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', pattern @ ..], _) => {
                (0..=text.len()).any(|skip| plainly(pattern, &text[skip..]))
            }
            ([first, pattern @ ..], [byte, text @ ..]) => first == byte && plainly(pattern, text),
            (pattern, text) => pattern.is_empty() && text.is_empty(),
        }
    }

    proptest! {
        #[test]
        fn a_star_is_any_text(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(matches(&pattern, &text), plainly(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[rstest]
    #[case("orders", "orders", true)]
    #[case("orders", "orders-1", false)]
    #[case("orders", "my-orders", false)]
    #[case("orders-*", "orders-", true)]
    #[case("orders-*", "orders", false)]
    #[case("*", "", true)]
    #[case("*", "anything", true)]
    #[case("", "", true)]
    #[case("", "x", false)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c-b", false)]
    #[case("a*a", "a", false)]
    #[case("ab*ba", "aba", false)]
    #[case("*-eu", "orders-eu-eu", true)]
    #[case("**", "x", true)]
    #[case("a.c", "abc", false)]
    #[case("[a-z]?", "b1", false)]
    fn texts(#[case] pattern: &str, #[case] text: &str, #[case] wanted: bool) {
        assert_eq!(matches(pattern, text), wanted);
    }

    #[rstest]
    #[case("http://127.0.0.1:*", "http://127.0.0.1:4566", true)]
    #[case("http://127.0.0.1:*", "http://127.0.0.1", true)]
    #[case("http://127.0.0.1:*", "http://127.1:9", true)]
    #[case("http://127.0.0.1:*", "https://127.0.0.1:4566", false)]
    #[case("http://127.0.0.1:*", "http://127.0.0.1.evil.example:80", false)]
    #[case("http://127.0.0.1", "http://127.0.0.1:80", true)]
    #[case("http://127.0.0.1", "http://127.0.0.1:81", false)]
    #[case(
        "https://kinesis.example.com",
        "https://kinesis.example.com:443/path",
        false
    )]
    #[case("https://h.example.com", "https://h.example.com/", true)]
    #[case(
        "https://h.example.com/kinesis",
        "https://h.example.com/kinesis/",
        true
    )]
    #[case(
        "https://h.example.com/kinesis",
        "https://h.example.com/dynamodb",
        false
    )]
    #[case(
        "https://h.example.com/kinesis",
        "https://h.example.com/kinesis/../admin",
        false
    )]
    #[case(
        "https://h.example.com/kinesis/*",
        "https://h.example.com/kinesis/%2e%2e/admin",
        false
    )]
    #[case("https://h.example.com/a/*", "https://h.example.com/a/b", true)]
    #[case("http://127.0.0.1:*/a", "http://127.0.0.1:4566/a", true)]
    #[case("http://127.0.0.1:*", "http://127.0.0.1:4566/?x=1", false)]
    #[case("https://Kinesis.Example.com", "https://KINESIS.example.com", true)]
    #[case("https://*.example.com", "https://a.b.example.com", true)]
    #[case("https://*.example.com", "https://example.com", false)]
    #[case("https://*.example.com", "https://evil.test/.example.com", false)]
    #[case("https://*.example.com:8443", "https://a.example.com:8443", true)]
    #[case("https://*", "https://anything", true)]
    #[case("https://*", "https://anything:8443", false)]
    #[case("https://*:*", "https://anything:8443", true)]
    #[case("http://[::1]:*", "http://[0:0::1]:1", true)]
    fn endpoints(#[case] pattern: EndpointPattern, #[case] endpoint: Url, #[case] wanted: bool) {
        assert_eq!(pattern.matches(&endpoint), wanted);
    }

    #[rstest]
    fn malformed(
        #[values(
            "",
            "*",
            "127.0.0.1:*",
            "ftp://host",
            "*://host",
            "http://",
            "http://:*",
            "http://u@host",
            "http://*@host",
            "http://host?x",
            "http://host/path?x",
            "http://host:1:*",
            "http://host:4*",
            "http://host:99999",
            "http://ho st",
            "http://1.2.*.4"
        )]
        pattern: &str,
    ) {
        assert!(pattern.parse::<EndpointPattern>().is_err(), "{pattern}");
    }

    #[rstest]
    fn printed_and_read_again(
        #[values(
            "http://127.0.0.1:*",
            "https://*.example.com",
            "http://[::1]:1",
            "https://*:*/a/*",
            "https://*:*"
        )]
        text: EndpointPattern,
    ) {
        assert_eq!(text.to_string().parse(), Ok(text));
    }
}
