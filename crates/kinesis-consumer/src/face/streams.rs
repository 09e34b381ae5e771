//! The streams of an application that reads several: which they are, as the user says it.

use std::{
    collections::BTreeSet, error::Error as StdError, fmt, future::Future, panic::AssertUnwindSafe,
    sync::Arc, time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::timeout;

use crate::{face::error::Error, model::keys::StreamIdentifier};

/// A callback that takes longer has failed.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The streams of an application that reads several; they come and go while it runs. Its lease
/// table is one of KCL's multi-stream mode.
///
/// An entry is a stream's name, its ARN, a pattern over the names of the account's streams such as
/// `orders-*`, where `*` stands for any text, or `account:name:epoch`, for a table whose Java
/// application made up its epochs.
///
/// ```
/// use kinesis_consumer::{Config, Streams};
///
/// let streams = Streams::of(["orders-*", "payments"]);
/// let config = Config::of_streams(streams, "billing", "worker-1");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Streams {
    pub(crate) source: Source,
    /// The time between looks which streams there are. Default 60 s.
    pub look_interval: Duration,
    /// The leases of a stream that is not read any more are deleted when nobody has touched them
    /// for so long. One that comes back before goes on where it stood. Default: never, as KCL.
    pub delete_leases_after: Option<Duration>,
}

#[derive(Clone)]
pub(crate) enum Source {
    Entries(Vec<String>),
    Callback(Arc<Callback>),
}

type BoxError = Box<dyn StdError + Send + Sync>;
type Callback = dyn Fn() -> BoxFuture<'static, Result<Vec<String>, BoxError>> + Send + Sync;

/// An entry, understood.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wanted {
    /// With that epoch, whenever the stream was made.
    As(StreamIdentifier),
    /// By name or ARN.
    Named(String),
    /// All whose names are like it.
    Like(String),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(id) => id.fmt(f),
            Self::Named(entry) | Self::Like(entry) => f.write_str(entry),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(entries) => f.debug_tuple("Entries").field(entries).finish(),
            Self::Callback(_) => f.write_str("Callback"),
        }
    }
}

impl Streams {
    /// The streams of these entries.
    pub fn of<T: Into<String>>(entries: impl IntoIterator<Item = T>) -> Self {
        let entries = entries.into_iter().map(Into::into);
        Self::from_source(Source::Entries(entries.collect()))
    }

    /// The streams of the entries that `callback` gives: it is asked at each look. While it fails,
    /// panics or takes longer than 30 s, those of its last answer are read.
    pub fn by<F, Fut, E>(callback: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<String>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let callback = move || {
            let answer = callback();
            let answer = async move { answer.await.map_err(Into::into) };
            Box::pin(answer) as BoxFuture<'static, _>
        };
        Self::from_source(Source::Callback(Arc::new(callback)))
    }

    fn from_source(source: Source) -> Self {
        Self {
            source,
            look_interval: Duration::from_secs(60),
            delete_leases_after: None,
        }
    }

    pub(crate) fn validate(&self, failover_time: Duration) -> Result<(), Error> {
        if let Source::Entries(entries) = &self.source {
            understood(entries).map_err(Error::InvalidConfig)?;
        }
        if self.look_interval < Duration::from_secs(1) {
            let got = self.look_interval;
            let text = format!("look_interval is {got:?}: want 1s or more");
            return Err(Error::InvalidConfig(text));
        }
        match self.delete_leases_after {
            Some(got) if got < 2 * failover_time => {
                let least = 2 * failover_time;
                let text = format!(
                    "delete_leases_after is {got:?}: want {least:?} (two failover times) or more, \
                     or none"
                );
                Err(Error::InvalidConfig(text))
            }
            _ => Ok(()),
        }
    }
}

impl Source {
    /// What is wanted now.
    pub(crate) async fn wanted(&self) -> Result<BTreeSet<Wanted>, String> {
        match self {
            Self::Entries(entries) => understood(entries),
            Self::Callback(callback) => {
                // Or its panic would end all looks, and nobody would be told.
                let answer = AssertUnwindSafe(async { callback().await }).catch_unwind();
                let entries = timeout(CALLBACK_TIMEOUT, answer)
                    .await
                    .map_err(|_| format!("Streams::by: no answer in {CALLBACK_TIMEOUT:?}"))?
                    .map_err(|_| "Streams::by: the callback panicked".to_owned())?
                    .map_err(|error| error.to_string())?;
                match entries.is_empty() {
                    true => Ok(BTreeSet::new()),
                    false => understood(&entries),
                }
            }
        }
    }
}

fn understood(entries: &[String]) -> Result<BTreeSet<Wanted>, String> {
    if entries.is_empty() {
        return Err("streams has no entry: want a name, an ARN or a pattern".to_owned());
    }
    entries.iter().map(|entry| understand(entry)).collect()
}

fn understand(entry: &str) -> Result<Wanted, String> {
    let of_names = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_name = |name: &str| (1..=128).contains(&name.len()) && name.chars().all(of_names);
    let is_arn = || {
        let parts: Vec<_> = entry.splitn(6, ':').collect();
        matches!(parts[..], ["arn", _, "kinesis", _, _, stream]
            if stream.strip_prefix("stream/").is_some_and(is_name))
    };
    if let Ok(id) = entry.parse::<StreamIdentifier>()
        && is_name(&id.name)
        && id.epoch > 0
    {
        return Ok(Wanted::As(id));
    }
    let is_pattern = entry.contains('*') && is_name(&entry.replace('*', "_"));
    match is_name(entry) || is_arn() {
        true => Ok(Wanted::Named(entry.to_owned())),
        false if is_pattern => Ok(Wanted::Like(entry.to_owned())),
        false => Err(format!(
            "streams has {entry:?}: want a stream's name or ARN, a pattern such as orders-*, or \
             account:name:epoch"
        )),
    }
}

/// Is the name like the pattern?
pub(crate) fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (name, pattern) in [
            ("orders-eu", "orders-*"),
            ("orders-", "orders-*"),
            ("orders", "*"),
            ("orders-eu-1", "*-eu-*"),
            ("aba", "a*ba"),
            ("orders", "orders"),
        ] {
            assert!(is_like(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [
            ("orders", "orders-*"),
            ("my-orders-eu", "orders-*"),
            ("orders-eu", "*-us"),
            ("aba", "ab*ba"),
            ("orders-eu", "orders"),
        ] {
            assert!(!is_like(name, pattern), "{name} {pattern}");
        }
    }

    #[test]
    fn entries_are_told_apart_and_wrong_ones_named() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
        assert_eq!(understand(arn), Ok(Wanted::Named(arn.to_owned())));
        assert_eq!(
            understand("a.b-c_d"),
            Ok(Wanted::Named("a.b-c_d".to_owned()))
        );
        assert_eq!(understand("o*s"), Ok(Wanted::Like("o*s".to_owned())));
        let id = "123456789012:orders:7";
        assert_eq!(understand(id), Ok(Wanted::As(id.parse().expect(id))));
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
        for wrong in [
            "",
            "a b",
            "1:orders:0",
            table,
            "arn:aws:kinesis:x:1:stream/o*",
        ] {
            let error = understand(wrong).expect_err(wrong);
            assert!(error.contains(&format!("{wrong:?}: want")), "{error}");
        }
        assert!(understood(&[]).is_err());
    }
}
