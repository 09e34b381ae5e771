//! What is read: one stream or several, and as which registered consumer.

use kinesis_consumer::{Config, Streams};

use super::Settings;
use crate::Error;

impl Settings {
    /// The stream's name or ARN. `None`: there are several. An empty variable is an unset one, as
    /// manifests have it.
    pub(crate) fn stream(&self) -> Option<&str> {
        self.stream_name.as_deref().filter(|name| !name.is_empty())
    }

    /// One stream or several, and not both.
    pub(crate) fn check_reads(&self) -> Result<(), Error> {
        let (name, value, want) = match (self.stream(), self.entries().next()) {
            (Some(_), None) | (None, Some(_)) => return Ok(()),
            (Some(_), Some(_)) => (
                "STREAMS",
                self.streams.as_deref(),
                "unset beside STREAM_NAME: one stream, or several",
            ),
            (None, None) => (
                "STREAM_NAME",
                self.stream_name.as_deref(),
                "a stream's name or ARN, or several streams in STREAMS",
            ),
        };
        let value = value.unwrap_or_default().to_owned();
        Err(Error::Setting { name, value, want })
    }

    /// What is read, for people: the stream, or what says which streams.
    pub(crate) fn reads(&self) -> &str {
        let reads = self.stream().or(self.streams.as_deref());
        reads.unwrap_or_default()
    }

    /// What says which streams are read. None where it is one.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &str> {
        let entries = self.streams.as_deref().unwrap_or_default().split(',');
        entries.map(str::trim).filter(|entry| !entry.is_empty())
    }

    /// The library's settings for what is read.
    pub(super) fn reading(&self) -> Config {
        let (application, worker) = (&self.application_name, self.instance_name());
        match self.stream() {
            Some(stream) => Config::new(stream, application, worker),
            None => Config::of_streams(Streams::of(self.entries()), application, worker),
        }
    }

    /// The registered consumer, if one is set.
    pub(super) fn consumer_name(&self) -> Option<&str> {
        self.consumer_name
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// What is wrong with the registered consumer.
    pub(super) fn check_consumer(&self) -> Result<(), Error> {
        let (name, value) = match self.consumer_name() {
            Some(value) => ("CONSUMER_NAME", value),
            None => ("APPLICATION_NAME", self.application_name.as_str()),
        };
        let wrong = |want| {
            let value = value.to_owned();
            Err(Error::Setting { name, value, want })
        };
        let is_name = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            (1..=128).contains(&text.len()) && text.chars().all(fits)
        };
        let Some((stream, consumer)) = value.split_once("/consumer/") else {
            return match is_name(value) {
                true => Ok(()),
                false => wrong(
                    "with RETRIEVAL=fanout 1 to 128 letters, digits, _, . or -, or a consumer's ARN",
                ),
            };
        };
        let is_arn = stream.starts_with("arn:")
            && consumer.split_once(':').is_some_and(|(name, registered)| {
                is_name(name) && registered.parse::<u64>().is_ok()
            });
        let is_ours = match self.stream() {
            None => false,
            Some(arn) if arn.starts_with("arn:") => arn == stream,
            Some(name) => stream.ends_with(&format!(":stream/{name}")),
        };
        match is_arn {
            false => {
                wrong("the consumer's ARN whole, such as …:stream/orders/consumer/app:1764547200")
            }
            true if self.stream().is_none() => {
                wrong("with STREAMS a name: each stream has a consumer of its own")
            }
            true if !is_ours => wrong("the ARN of a consumer of STREAM_NAME"),
            true => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parse(more: &[&str]) -> Result<Settings, clap::Error> {
        let base = ["x", "--table-name=t", "--application-name=a"];
        Settings::try_parse_from(base.iter().chain(more))
    }

    #[test]
    fn one_stream_or_several_and_not_both() {
        let settings = parse(&["--streams= orders-*, payments,"]).unwrap();
        assert_eq!(
            settings.entries().collect::<Vec<_>>(),
            ["orders-*", "payments"]
        );
        let config = settings.reading();
        assert!(config.streams.is_some() && config.stream.is_empty());
        assert_eq!(settings.reads(), " orders-*, payments,");

        let one = parse(&["--stream-name=orders"]).unwrap();
        assert_eq!(one.reading().stream, "orders");
        assert!(one.reading().streams.is_none() && one.entries().next().is_none());

        let wrong = |more: &[&str]| parse(more).unwrap().check().unwrap_err().to_string();
        assert_eq!(
            wrong(&["--stream-name=orders", "--streams=orders-*"]),
            "STREAMS \"orders-*\": want unset beside STREAM_NAME: one stream, or several"
        );
        for neither in [&[][..], &["--stream-name=", "--streams=,"]] {
            assert_eq!(
                wrong(neither),
                "STREAM_NAME \"\": want a stream's name or ARN, or several streams in STREAMS"
            );
        }
    }

    /// As manifests have it that set both variables.
    #[test]
    fn an_empty_variable_is_an_unset_one() {
        let one = parse(&["--stream-name=orders", "--streams="]).unwrap();
        one.check().unwrap();
        assert_eq!(one.reading().stream, "orders");
        let several = parse(&["--stream-name=", "--streams=orders-*"]).unwrap();
        several.check().unwrap();
        assert!(several.reading().streams.is_some() && several.reads() == "orders-*");
    }

    #[test]
    fn several_streams_have_no_consumer_by_arn() {
        let arn = "arn:aws:kinesis:us-east-1:111122223333:stream/s/consumer/c:1764547200";
        let settings = parse(&["--streams=s", "--retrieval=fanout", "--consumer-name", arn]);
        let error = settings.unwrap().check_consumer().unwrap_err().to_string();
        assert!(error.contains("want with STREAMS a name"), "{error}");
    }
}
