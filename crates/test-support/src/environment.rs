//! Rules of the environment, for every program alike: each runs with each variable at each odd
//! value.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use futures::{StreamExt as _, stream};

use crate::Program;

/// What a variable that says `x`, or `http://`, is: wrong, or a text like any other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Says {
    /// Neither makes sense.
    Wrong,
    /// Any text does.
    Text,
}

use Says::{Text, Wrong};

const VARIABLES: [(&str, Says); 44] = [
    ("AWS_REGION", Wrong),
    ("AWS_DEFAULT_REGION", Wrong),
    ("AWS_ENDPOINT_URL", Wrong),
    ("AWS_ENDPOINT_URL_KINESIS", Wrong),
    ("AWS_ENDPOINT_URL_DYNAMODB", Wrong),
    ("AWS_ENDPOINT_URL_STS", Wrong),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", Wrong),
    ("AWS_USE_FIPS_ENDPOINT", Wrong),
    ("AWS_USE_DUALSTACK_ENDPOINT", Wrong),
    ("AWS_ACCESS_KEY_ID", Text),
    ("AWS_SECRET_ACCESS_KEY", Text),
    ("AWS_SESSION_TOKEN", Text),
    ("AWS_PROFILE", Wrong),
    ("AWS_CONFIG_FILE", Text),
    ("AWS_SHARED_CREDENTIALS_FILE", Text),
    ("AWS_ROLE_ARN", Wrong),
    ("AWS_ROLE_SESSION_NAME", Text),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Wrong),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Wrong),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Wrong),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", Text),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Wrong),
    ("AWS_EC2_METADATA_DISABLED", Wrong),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", Wrong),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", Wrong),
    ("AWS_MAX_ATTEMPTS", Wrong),
    ("AWS_RETRY_MODE", Wrong),
    ("AWS_SDK_UA_APP_ID", Text),
    ("AWS_DISABLE_REQUEST_COMPRESSION", Wrong),
    ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", Wrong),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", Wrong),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", Wrong),
    ("AWS_ACCOUNT_ID_ENDPOINT_MODE", Wrong),
    ("AWS_CA_BUNDLE", Wrong),
    ("SSL_CERT_FILE", Wrong),
    ("SSL_CERT_DIR", Wrong),
    ("HTTPS_PROXY", Wrong),
    ("https_proxy", Wrong),
    ("HTTP_PROXY", Wrong),
    ("http_proxy", Wrong),
    ("ALL_PROXY", Wrong),
    ("all_proxy", Wrong),
    ("NO_PROXY", Text),
    ("no_proxy", Text),
];

/// The environment of a program that finds nobody: every call ends at a proxy that is not there.
#[must_use]
pub fn nobody_answers(program: Program) -> Program {
    [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "very-secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
    ]
    .into_iter()
    .fold(program, |program, (name, value)| program.env(name, value))
}

/// `program` ends by itself, with code 1 where its environment is wrong. Each variable is empty,
/// blank, `x`, `http://` and not UTF-8: it never panics; empty counts as unset; what is wrong is
/// named, with what is wanted.
///
/// # Panics
/// One of them is not so.
pub async fn every_variable_is_unset_right_or_named(program: Program) {
    let program = nobody_answers(program);
    let values = [
        Some(""),
        Some(" \t"),
        Some("x"),
        Some("http://"),
        None, // Not UTF-8.
    ];
    let cases = VARIABLES.iter().flat_map(|variable| {
        let case = move |value| (*variable, value);
        values.map(case)
    });
    let run = |((name, says), value): ((&'static str, Says), Option<&'static str>)| {
        let value_os = match value {
            Some(value) => OsString::from(value),
            None => OsString::from_vec(vec![b'h', 0xff]),
        };
        let program = program.clone().env(name, value_os);
        async move {
            let (code, log) = program.run().await;
            let what = format!("{name}={value:?} ended with {code}:\n{log}");
            assert!(code != 101 && !log.contains("panicked"), "{what}");
            assert!(!log.contains("very-secret"), "a secret is told: {what}");
            let log = log.replace("\\\"", "\"");
            let lines: Vec<_> = log.lines().collect();
            let named = lines
                .iter()
                .any(|line| line.contains(name) && line.contains("want "));
            let blank = value.is_some_and(|value| value.trim().is_empty());
            let wrong = !blank && (says == Wrong || value.is_none());
            assert_eq!(named, wrong, "{what}");
            assert!(!wrong || code == 1 || code == 2, "{what}");
        }
    };
    let runs = stream::iter(cases).map(run).buffer_unordered(4);
    runs.collect::<Vec<()>>().await;
}
