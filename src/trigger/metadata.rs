//! Reads one key after the other and collects what is wrong, so that a user sees all of it at once.

mod table;

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use url::Url;

use self::table::Table;
use super::{
    KEYS, Measure, Role, ScaleOn, Stream, StreamSource,
    given::{FROM_ENV, Given, Misspelt, misspelt},
    understood::Mode,
};
use crate::{
    error::{Wrong, shortened},
    names,
};

/// External ids, which may be secrets.
const EXTERNAL_IDS: [&str; 2] = ["awsExternalId", "leaseTableExternalId"];

/// The metadata of one trigger while it is read.
pub(super) struct Metadata<'a> {
    given: Given<'a>,
    wrong: Vec<Wrong>,
}

/// What is counted, before the stream is known that an application's lease table stands beside.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
pub(super) enum Scaling {
    OpenShards {
        activation: i64,
    },
    Application {
        table: Table,
        measure: Measure,
        initial_timestamp: Option<Timestamp>,
    },
}

impl Scaling {
    /// The same, on this stream.
    pub(super) fn beside(self, stream: &StreamSource) -> ScaleOn {
        match self {
            Self::OpenShards { activation } => ScaleOn::OpenShards { activation },
            Self::Application {
                table,
                measure,
                initial_timestamp,
            } => ScaleOn::Application(table.work(measure, initial_timestamp, stream)),
        }
    }
}

impl<'a> Metadata<'a> {
    pub(super) fn new(map: &'a HashMap<String, String>) -> Self {
        Self {
            given: Given(map),
            wrong: Vec::new(),
        }
    }

    /// One entry for each wrong key, in the order in which they were read; then the keys that are
    /// not read because they are misspelt, which may be why.
    pub(super) fn into_wrong(mut self) -> Vec<Wrong> {
        if !self.wrong.is_empty() {
            for misspelt in misspelt(self.given.0.keys()) {
                let Misspelt { written, right, .. } = &misspelt;
                let want = format!("{right} where {written:?} stands");
                let mut wrong = self.wrong.iter_mut();
                match wrong.find(|it| it.key == misspelt.key && it.value.is_none()) {
                    Some(missing) => missing.want.push_str(&format!("; want {want}")),
                    None => _ = self.unsaid::<()>(misspelt.key, want),
                }
            }
        }
        self.wrong
    }

    /// A key is given once: plain, or by a variable.
    pub(super) fn refuse_both(&mut self) {
        for key in KEYS.iter().map(|key| key.name) {
            if let (Some(value), Some(_)) = (self.given.plain(key), self.given.of_variable(key)) {
                let want = format!("either {key} or {key}{FROM_ENV}, not both");
                // An external id, and what stands before the @ of a URL, may be secrets.
                if EXTERNAL_IDS.contains(&key) || value.contains('@') {
                    self.unsaid::<()>(key, want);
                } else {
                    self.wrong::<()>(key, value, want);
                }
            }
        }
    }

    pub(super) fn refuse_static_credentials(&mut self, keys: &[&'static str]) {
        const WANT: &str = "no static credentials: the scaler has its own identity; name a role in awsRoleArn for another";
        for key in keys {
            if self.given.plain(key).is_some() {
                self.unsaid::<()>(key, WANT);
            }
        }
    }

    /// `scaleOn`; a wrong one gives the default, which nobody will see.
    pub(super) fn mode(&mut self) -> Mode {
        let Some(value) = self.value("scaleOn") else {
            return Mode::OpenShards;
        };
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == value)
            .or_else(|| self.wrong("scaleOn", value, "openShards, readableShards or lag"))
            .unwrap_or(Mode::OpenShards)
    }

    /// The keys that go with `scaleOn`, and none that go with another. `None`: one is wrong.
    pub(super) fn scaling(&mut self, mode: Mode) -> Option<Scaling> {
        const OF_LAG: &[&str] = &["lagThreshold", "activationLagThreshold", "initialTimestamp"];
        let measure = match mode {
            Mode::OpenShards => {
                self.refuse(
                    table::KEYS,
                    "scaleOn readableShards or lag with it, or no such key: openShards asks about the stream alone",
                );
                self.refuse(OF_LAG, "scaleOn lag with it");
                let activation = self.activation_shard_count();
                return Some(Scaling::OpenShards { activation });
            }
            Mode::ReadableShards => {
                self.refuse(OF_LAG, "scaleOn lag with it");
                Measure::ReadableShards {
                    activation: self.activation_shard_count(),
                }
            }
            Mode::Lag => {
                self.refuse(
                    &["activationShardCount"],
                    "activationLagThreshold with scaleOn lag: it is a record's age that activates",
                );
                Measure::Lag {
                    threshold: self.duration("lagThreshold", 30, 1),
                    activation: self.duration("activationLagThreshold", 0, 0),
                }
            }
        };
        let initial_timestamp = self.timestamp("initialTimestamp");
        Some(Scaling::Application {
            table: self.lease_table()?,
            measure,
            initial_timestamp,
        })
    }

    /// Below 0 the trigger is always active: the built-in scaler has it so, and KEDA copes.
    fn activation_shard_count(&mut self) -> i64 {
        self.whole_number("activationShardCount", 0, i64::MIN)
    }

    /// A duration of at least `min` seconds; a bare number is seconds. A wrong one gives the
    /// default, which nobody will see.
    fn duration(&mut self, key: &'static str, default: u64, min: u64) -> Duration {
        let default = Duration::from_secs(default);
        let Some(value) = self.value(key) else {
            return default;
        };
        let want =
            || format!("a duration from {min}s to 7d, such as 45s or 2m, or a number of seconds");
        names::age(value)
            .filter(|duration| *duration >= Duration::from_secs(min))
            .or_else(|| self.wrong(key, value, want()))
            .unwrap_or(default)
    }

    /// A point in time. A wrong one counts as none, which nobody will see.
    fn timestamp(&mut self, key: &'static str) -> Option<Timestamp> {
        const WANT: &str = "a time with its offset from UTC, such as 2026-11-30T08:00:00Z";
        let value = self.value(key)?;
        value.parse().ok().or_else(|| self.wrong(key, value, WANT))
    }

    fn refuse(&mut self, keys: &[&'static str], want: &str) {
        for key in keys {
            match self.value(key) {
                Some(_) if EXTERNAL_IDS.contains(key) => _ = self.unsaid::<()>(key, want),
                Some(value) => _ = self.wrong::<()>(key, value, want),
                None => {}
            }
        }
    }

    /// An int64 of at least `min`. A wrong one gives the default, which nobody will see.
    pub(super) fn whole_number(&mut self, key: &'static str, default: i64, min: i64) -> i64 {
        let Some(value) = self.value(key) else {
            return default;
        };
        let number = names::whole_number(value).filter(|number| *number >= min);
        let want = || match min {
            i64::MIN => "a whole number within int64, such as 0 or 5".to_owned(),
            _ => format!("a whole number from {min} to {}, such as 2", i64::MAX),
        };
        number
            .or_else(|| self.wrong(key, value, want()))
            .unwrap_or(default)
    }

    /// The stream with its region, endpoint and role. `None`: one is wrong.
    pub(super) fn stream_source(&mut self, default_region: Option<&str>) -> Option<StreamSource> {
        let stream = self.stream();
        let region = self.region(stream.as_ref(), default_region);
        let endpoint = self.endpoint("awsEndpoint");
        let arn = self.value("awsRoleArn");
        let role = self.role("awsRoleArn", arn, "awsExternalId");
        Some(StreamSource {
            stream: stream?,
            region: region?,
            endpoint,
            role,
        })
    }

    fn stream(&mut self) -> Option<Stream> {
        const ARN: &str = "a stream's ARN, arn:aws:kinesis:REGION:ACCOUNT:stream/NAME";
        const NAME: &str = "1 to 128 of the characters a-z A-Z 0-9 _ . -";
        if let Some(streams) = self.value("streams") {
            return self.all_streams(streams);
        }
        match (self.value("streamName"), self.value("streamArn")) {
            (Some(name), None) if names::is_stream_name(name) => {
                Some(Stream::Name(name.to_owned()))
            }
            (Some(arn), None) if arn.starts_with("arn:") => {
                self.wrong("streamName", arn, "a name; an ARN goes into streamArn")
            }
            (Some(name), None) => self.wrong("streamName", name, NAME),
            (None, Some(arn)) => match names::stream_arn_region(arn) {
                Ok(_) => Some(Stream::Arn(arn.to_owned())),
                Err(instead) => self.wrong("streamArn", arn, format!("{ARN}; this is {instead}")),
            },
            (Some(name), Some(_)) => self.wrong(
                "streamName",
                name,
                "either streamName or streamArn, not both",
            ),
            (None, None) => self.unsaid("streamName", "the stream's name, or its ARN in streamArn"),
        }
    }

    /// `streams`: one value, which needs an application and nothing that names one stream.
    fn all_streams(&mut self, streams: &str) -> Option<Stream> {
        let one = ["streamName", "streamArn"];
        let one = one.into_iter().find(|key| self.value(key).is_some());
        let is_of_application = matches!(self.value("scaleOn"), Some("readableShards" | "lag"));
        match (streams, one) {
            ("all", Some(key)) => {
                let want = format!("nothing beside {key}, which names one stream");
                self.wrong("streams", streams, want)
            }
            ("all", None) if !is_of_application => self.wrong(
                "streams",
                streams,
                "scaleOn readableShards or lag with it: the application's lease table says which \
                 streams",
            ),
            ("all", None) => Some(Stream::All),
            _ => self.wrong(
                "streams",
                streams,
                "all, or one stream by streamName or streamArn",
            ),
        }
    }

    /// The trigger's region, else the ARN's, else the scaler's.
    fn region(&mut self, stream: Option<&Stream>, default: Option<&str>) -> Option<String> {
        const MISSING: &str =
            "the stream's region, such as eu-west-1: neither the trigger nor the scaler has one";
        let of_arn = match stream {
            Some(Stream::Arn(arn)) => names::stream_arn_region(arn).ok(),
            _ => None,
        };
        match (self.value("awsRegion"), of_arn) {
            (Some(region), _) if !names::is_region(region) => {
                self.wrong("awsRegion", region, "a region, such as eu-west-1")
            }
            (Some(region), Some(of_arn)) if region != of_arn => self.wrong(
                "awsRegion",
                region,
                format!("the region of streamArn, {of_arn}, or nothing"),
            ),
            (Some(region), _) => Some(region.to_owned()),
            (None, Some(of_arn)) => Some(of_arn.to_owned()),
            // A wrong ARN is said already, and will bring its region when it is right.
            (None, None) if default.is_none() && self.value("streamArn").is_none() => {
                self.unsaid("awsRegion", MISSING)
            }
            (None, None) => default.map(str::to_owned),
        }
    }

    fn endpoint(&mut self, key: &'static str) -> Option<Url> {
        const WANT: &str = "an http or https URL with a host and no user, query, fragment or %, such as https://kinesis.example.com:4566";
        let value = self.value(key)?;
        names::endpoint(value).or_else(|| {
            // What stands before an @ may be a password.
            if value.contains('@') {
                self.unsaid(key, WANT)
            } else {
                self.wrong(key, value, WANT)
            }
        })
    }

    /// The role that `arn` names, the value of `key`, with its external id.
    fn role(
        &mut self,
        key: &'static str,
        arn: Option<&str>,
        external_id_key: &'static str,
    ) -> Option<Role> {
        const EXTERNAL_ID: &str = "2 to 1224 of the characters a-z A-Z 0-9 _ + = , . @ : / -";
        let external_id = self.value(external_id_key);
        let Some(arn) = arn else {
            external_id?;
            let want = format!("{key} with it: it is for assuming a role");
            return self.unsaid(external_id_key, want);
        };
        if external_id.is_some_and(|id| !names::is_external_id(id)) {
            self.unsaid::<()>(external_id_key, EXTERNAL_ID);
        }
        if !names::is_role_arn(arn) {
            let or = match key {
                "leaseTableRoleArn" => ", or none: the scaler's own identity",
                _ => "",
            };
            let want = format!("the ARN of an IAM role, arn:aws:iam::ACCOUNT:role/NAME{or}");
            return self.wrong(key, arn, want);
        }
        Some(Role {
            arn: arn.to_owned(),
            external_id: external_id.map(str::to_owned),
        })
    }

    /// The value of a key of ours, however it is given.
    fn value(&self, key: &'static str) -> Option<&'a str> {
        debug_assert!(
            KEYS.iter().any(|known| known.name == key),
            "{key} is not in KEYS"
        );
        self.given.value(key)
    }

    fn wrong<T>(&mut self, key: &'static str, value: &str, want: impl Into<String>) -> Option<T> {
        let mut want = want.into();
        if self.given.plain(key).is_none() {
            want.push_str(&format!("; it came by {key}{FROM_ENV}"));
        }
        self.wrong.push(Wrong {
            key,
            value: Some(shortened(value).into_owned()),
            want,
        });
        None
    }

    /// Wrong, without its value: there is none, or it may be a secret.
    fn unsaid<T>(&mut self, key: &'static str, want: impl Into<String>) -> Option<T> {
        self.wrong.push(Wrong {
            key,
            value: None,
            want: want.into(),
        });
        None
    }
}
