//! The triggers to check: of a manifest, or of `--set`.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// As kubectl has it.
const DEFAULT_NAMESPACE: &str = "default";

/// A trigger as a user wrote it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// `namespace/name triggers[0]`, or `--set`.
    pub(super) place: String,
    pub(super) namespace: String,
    /// `external`, `external-push` or `aws-kinesis-stream`.
    pub(super) kind: String,
    pub(super) metadata: HashMap<String, String>,
}

/// The triggers of `--set key=value`.
pub(super) fn parse_pairs(pairs: &[String]) -> anyhow::Result<Vec<Written>> {
    let metadata = pairs
        .iter()
        .map(|pair| {
            let split = pair.split_once('=');
            let (key, value) = split.with_context(|| format!("--set {pair:?}: want key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(vec![Written {
        place: "--set".to_owned(),
        namespace: DEFAULT_NAMESPACE.to_owned(),
        kind: "external".to_owned(),
        metadata,
    }])
}

/// The triggers of a manifest that KEDA would ask this scaler about, and those of KEDA's built-in
/// scaler, which this one can replace.
pub(super) fn parse_manifest(text: &str) -> anyhow::Result<Vec<Written>> {
    let documents: Vec<Value> =
        serde_yaml::from_multiple(text).map_err(|error| anyhow::anyhow!("no YAML: {error}"))?;
    let mut found = Vec::new();
    for document in documents {
        let kind = document["kind"].as_str().unwrap_or_default();
        if !["ScaledObject", "ScaledJob"].contains(&kind) {
            continue;
        }
        let name = document["metadata"]["name"].as_str().unwrap_or("(no name)");
        let namespace = document["metadata"]["namespace"]
            .as_str()
            .unwrap_or(DEFAULT_NAMESPACE);
        let triggers = document["spec"]["triggers"].as_array();
        for (index, trigger) in triggers.into_iter().flatten().enumerate() {
            let kind = trigger["type"].as_str().unwrap_or_default();
            let place = format!("{namespace}/{name} triggers[{index}]");
            let of_ours = match kind {
                "aws-kinesis-stream" => true,
                "external" | "external-push" => {
                    let metadata = &trigger["metadata"];
                    ["streamName", "streamArn"]
                        .iter()
                        .any(|key| metadata.get(key).is_some())
                }
                _ => false,
            };
            if of_ours {
                found.push(Written {
                    metadata: texts(&trigger["metadata"])
                        .with_context(|| format!("{place}: metadata"))?,
                    place,
                    namespace: namespace.to_owned(),
                    kind: kind.to_owned(),
                });
            }
        }
    }
    if found.is_empty() {
        bail!(
            "no ScaledObject with a trigger for this scaler: want type external or external-push with streamName or streamArn, or aws-kinesis-stream"
        );
    }
    Ok(found)
}

/// Metadata as text: KEDA refuses a ScaledObject with any other value.
fn texts(metadata: &Value) -> anyhow::Result<HashMap<String, String>> {
    let Some(metadata) = metadata.as_object() else {
        bail!("want keys and values");
    };
    metadata
        .iter()
        .map(|(key, value)| match value.as_str() {
            Some(text) => Ok((key.clone(), text.to_owned())),
            None => bail!(
                "{key} is {value}: want text, in quotes; KEDA refuses the ScaledObject otherwise"
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
kind: ScaledObject
metadata: {name: orders, namespace: shop}
spec:
  triggers:
    - type: cron
      metadata: {timezone: UTC}
    - type: external
      metadata: {scalerAddress: "other:1", topic: x}
    - type: external-push
      metadata: {scalerAddress: "scaler:6000", streamName: orders}
---
kind: ScaledObject
metadata: {name: payments}
spec:
  triggers:
    - type: aws-kinesis-stream
      metadata: {streamName: payments, shardCount: "3"}
"#;

    #[test]
    fn triggers_of_ours_and_of_the_built_in_are_found() {
        let found = parse_manifest(YAML).unwrap();
        let places: Vec<_> = found.iter().map(|it| it.place.as_str()).collect();
        assert_eq!(
            places,
            ["shop/orders triggers[2]", "default/payments triggers[0]"]
        );
        assert_eq!(found[0].namespace, "shop");
        assert_eq!(found[1].metadata["shardCount"], "3");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let number = YAML.replace("\"3\"", "3");
        let error = format!("{:#}", parse_manifest(&number).unwrap_err());
        assert!(error.contains("shardCount is 3: want text"), "{error}");
        assert!(parse_manifest("kind: Pod").is_err());
        assert!(parse_manifest("a: [").is_err());
        assert!(parse_pairs(&["streamName".to_owned()]).is_err());
    }
}
