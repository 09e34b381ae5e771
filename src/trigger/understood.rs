//! A trigger's metadata as understood: the keys that we know, with their values, also those that
//! hold by default.

use serde::Serialize;

use super::{LeaseTable, Measure, OnMissingTable, Role, ScaleOn, Stream, StreamSource, Trigger};
use crate::names;

/// A metadata key and its value, as understood.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Pair {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// `scaleOn`: what is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The open shards of a stream.
    OpenShards,
    /// The shards that an application can work on now.
    ReadableShards,
    /// The replicas that an application's lag deserves.
    Lag,
}

impl Mode {
    /// Every mode; the first is the default.
    pub const ALL: [Self; 3] = [Self::OpenShards, Self::ReadableShards, Self::Lag];

    /// The mode of a trigger.
    pub fn from_trigger(trigger: &Trigger) -> Self {
        match &trigger.scale_on {
            ScaleOn::OpenShards { .. } => Self::OpenShards,
            ScaleOn::Application(work) => match work.measure {
                Measure::ReadableShards { .. } => Self::ReadableShards,
                Measure::Lag { .. } => Self::Lag,
            },
        }
    }

    /// As the trigger's metadata name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenShards => "openShards",
            Self::ReadableShards => "readableShards",
            Self::Lag => "lag",
        }
    }
}

/// In place of an external id.
const NOT_SHOWN: &str = "given, not shown";

/// Every key that holds, with its value as understood. An external id is said to be there, never
/// shown.
pub fn understood(trigger: &Trigger) -> Vec<Pair> {
    let mut keys = Vec::new();
    let mut is = |key, value: String| keys.push(Pair { key, value });
    // Each field is named: one that is forgotten does not compile.
    let Trigger {
        stream,
        scale_on,
        shard_count,
    } = trigger;
    let StreamSource {
        stream,
        region,
        endpoint,
        role,
    } = stream;
    match stream {
        Stream::Name(name) => is("streamName", name.clone()),
        Stream::Arn(arn) => is("streamArn", arn.clone()),
        Stream::All => is("streams", "all".to_owned()),
    }
    is("awsRegion", region.clone());
    is("scaleOn", Mode::from_trigger(trigger).name().to_owned());
    is("shardCount", shard_count.to_string());
    let mut table = None;
    match scale_on {
        ScaleOn::OpenShards { activation } => is("activationShardCount", activation.to_string()),
        ScaleOn::Application(work) => {
            match work.measure {
                Measure::ReadableShards { activation } => {
                    is("activationShardCount", activation.to_string());
                }
                Measure::Lag {
                    threshold,
                    activation,
                } => {
                    is("lagThreshold", names::duration_text(threshold));
                    is("activationLagThreshold", names::duration_text(activation));
                }
            }
            if let Some(time) = work.initial_timestamp {
                is("initialTimestamp", time.to_string());
            }
            is("leaseTable", work.table.as_asked().to_owned());
            is("leaseTableRegion", work.table.region.clone());
            let word = match work.on_missing_table {
                OnMissingTable::Activate => "activate",
                OnMissingTable::Idle => "idle",
                OnMissingTable::Error => "error",
            };
            is("onMissingTable", word.to_owned());
            table = Some(&work.table);
        }
    }
    if let Some(endpoint) = endpoint {
        is("awsEndpoint", endpoint.to_string());
    }
    if let Some(endpoint) = table.and_then(|table| table.endpoint.as_ref()) {
        is("leaseTableEndpoint", endpoint.to_string());
    }
    if let Some(Role { arn, external_id }) = role {
        is("awsRoleArn", arn.clone());
        if external_id.is_some() {
            is("awsExternalId", NOT_SHOWN.to_owned());
        }
    }
    match table {
        Some(LeaseTable { role: table, .. }) if table != role => {
            let arn = table.as_ref().map_or("none", |role| &role.arn);
            is("leaseTableRoleArn", arn.to_owned());
            if table
                .as_ref()
                .is_some_and(|role| role.external_id.is_some())
            {
                is("leaseTableExternalId", NOT_SHOWN.to_owned());
            }
        }
        _ => {}
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_said_and_secrets_are_not() {
        let pairs = [
            ("streamName", "orders"),
            ("awsRegion", "eu-west-1"),
            ("scaleOn", "lag"),
            ("applicationName", "billing"),
            ("lagThreshold", "90s"),
            ("awsRoleArn", "arn:aws:iam::111122223333:role/reader"),
            ("awsExternalId", "topsecret"),
            ("leaseTableRoleArn", "arn:aws:iam::444455556666:role/leases"),
            ("leaseTableExternalId", "topsecret"),
            ("dbPasswordFromEnv", "topsecret"),
        ];
        let metadata = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let trigger = Trigger::parse(&metadata.into(), None).unwrap();
        let keys = understood(&trigger);
        let said: Vec<_> = keys.iter().map(|it| (it.key, it.value.as_str())).collect();
        assert_eq!(
            said,
            [
                ("streamName", "orders"),
                ("awsRegion", "eu-west-1"),
                ("scaleOn", "lag"),
                ("shardCount", "2"),
                ("lagThreshold", "1m 30s"),
                ("activationLagThreshold", "0s"),
                ("leaseTable", "billing"),
                ("leaseTableRegion", "eu-west-1"),
                ("onMissingTable", "error"),
                ("awsRoleArn", "arn:aws:iam::111122223333:role/reader"),
                ("awsExternalId", "given, not shown"),
                ("leaseTableRoleArn", "arn:aws:iam::444455556666:role/leases"),
                ("leaseTableExternalId", "given, not shown"),
            ]
        );
    }
}
