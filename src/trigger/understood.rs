//! A trigger's metadata as understood: the keys that we know, with their values, also those that hold by default.

use serde::Serialize;

use super::{OnMissingTable, Role, ScaleOn, Source, Stream, Trigger};

/// A metadata key and its value, as understood.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Pair {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// The value of `scaleOn`.
pub fn scale_on(trigger: &Trigger) -> &'static str {
    match trigger.scale_on {
        ScaleOn::OpenShards { .. } => "openShards",
        ScaleOn::ReadableShards { .. } => "readableShards",
        ScaleOn::Lag { .. } => "lag",
    }
}

/// Every key that holds, with its value as understood. An external id is said to be there, never shown.
pub fn understood(trigger: &Trigger) -> Vec<Pair> {
    let mut keys = Vec::new();
    let mut is = |key, value: String| keys.push(Pair { key, value });
    let Source {
        stream,
        region,
        endpoint,
        role,
        lease_table,
    } = &trigger.source;
    match stream {
        Stream::Name(name) => is("streamName", name.clone()),
        Stream::Arn(arn) => is("streamArn", arn.clone()),
    }
    is("awsRegion", region.clone());
    is("scaleOn", scale_on(trigger).to_owned());
    is("shardCount", trigger.shard_count.to_string());
    let on_missing = match trigger.scale_on {
        ScaleOn::OpenShards { activation } => {
            is("activationShardCount", activation.to_string());
            None
        }
        ScaleOn::ReadableShards {
            activation,
            on_missing_table,
        } => {
            is("activationShardCount", activation.to_string());
            Some(on_missing_table)
        }
        ScaleOn::Lag {
            threshold,
            activation,
            on_missing_table,
        } => {
            let duration = |it| humantime::format_duration(it).to_string();
            is("lagThreshold", duration(threshold));
            is("activationLagThreshold", duration(activation));
            Some(on_missing_table)
        }
    };
    if let Some(table) = lease_table {
        is("leaseTable", table.name.clone());
    }
    if let Some(on_missing) = on_missing {
        let word = match on_missing {
            OnMissingTable::Activate => "activate",
            OnMissingTable::Idle => "idle",
            OnMissingTable::Error => "error",
        };
        is("onMissingTable", word.to_owned());
    }
    if let Some(endpoint) = endpoint {
        is("awsEndpoint", endpoint.to_string());
    }
    let of_table = lease_table
        .as_ref()
        .and_then(|table| table.endpoint.as_ref());
    if let Some(endpoint) = of_table {
        is("leaseTableEndpoint", endpoint.to_string());
    }
    if let Some(Role { arn, external_id }) = role {
        is("awsRoleArn", arn.clone());
        if external_id.is_some() {
            is("awsExternalId", "given, not shown".to_owned());
        }
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
                ("onMissingTable", "activate"),
                ("awsRoleArn", "arn:aws:iam::111122223333:role/reader"),
                ("awsExternalId", "given, not shown"),
            ]
        );
    }
}
