//! The triggers to check: of objects, or of `--set`.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    documents::{Files, Object, Unread},
    environment::{Environment, namespace},
    scaling::Scaling,
};
use crate::trigger::{
    KEYS,
    given::{FROM_ENV, nearest},
};

/// Metadata keys that KEDA reads itself to reach the scaler.
const KEDAS_KEYS: [&str; 6] = [
    "scalerAddress",
    "enableTLS",
    "unsafeSsl",
    "caCert",
    "tlsClientCert",
    "tlsClientKey",
];

/// What stands beside `metadata`.
const BESIDE_METADATA: [&str; 5] = [
    "type",
    "name",
    "metricType",
    "useCachedMetrics",
    "authenticationRef",
];

const TYPES: [&str; 3] = ["external", "external-push", "aws-kinesis-stream"];

/// A trigger as a user wrote it.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// `namespace/name triggers[0]`, or `--set`.
    pub(super) place: String,
    pub(super) namespace: String,
    /// `external`, `external-push` or `aws-kinesis-stream`.
    pub(super) kind: String,
    /// As KEDA would send it, as far as that is known.
    pub(super) metadata: HashMap<String, String>,
    /// Keys that are not read: their names, and why.
    pub(super) ignored: Vec<(String, String)>,
    /// Why Kubernetes or KEDA refuses the object.
    pub(super) refused: Vec<String>,
    /// What only the cluster knows.
    pub(super) unknown: Vec<String>,
    /// What stands around it; nothing with `--set`.
    pub(super) scaling: Option<Scaling>,
}

/// `--env` and `--set`: `NAME=VALUE`.
pub(super) fn parse_pair(pair: &str) -> Result<(String, String), String> {
    let split = pair.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or("want NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The trigger of `--set key=value`.
pub(super) fn of_pairs(pairs: &[(String, String)], variables: &HashMap<String, String>) -> Written {
    let environment = Environment {
        given: variables,
        container: Err("--set names no container".to_owned()),
    };
    let mut written = Written {
        place: "--set".to_owned(),
        namespace: "default".to_owned(),
        kind: TYPES[0].to_owned(),
        metadata: pairs.iter().cloned().collect(),
        ..Written::default()
    };
    written.unknown = environment.resolve(&mut written.metadata);
    written.ignored = ignored(&written.metadata);
    written
}

/// The triggers that KEDA would ask this scaler about, and those of KEDA's built-in scaler, which
/// this one can replace.
pub(super) fn of_files(files: &mut Files, variables: &HashMap<String, String>) -> Vec<Written> {
    let mut found = Vec::new();
    let mut odd = Vec::new();
    for object in &files.objects {
        let value = &object.value;
        let kind = value["kind"].as_str().unwrap_or_default();
        let Some(right) = ["ScaledObject", "ScaledJob"]
            .into_iter()
            .find(|it| it.eq_ignore_ascii_case(kind))
        else {
            continue;
        };
        let mut pass_over = |wrong: String| {
            let place = object.place.clone();
            odd.push(Unread { place, wrong });
        };
        if kind != right {
            pass_over(format!("kind {kind:?}: want {right}"));
            continue;
        }
        let Some(triggers) = value["spec"]["triggers"].as_array() else {
            pass_over(format!(
                "a {kind} without spec.triggers: want a list of triggers"
            ));
            continue;
        };
        for (index, trigger) in triggers.iter().enumerate() {
            if is_ours(trigger) {
                found.push(of_trigger(value, index, trigger, &files.objects, variables));
            }
        }
    }
    files.unread.append(&mut odd);
    found
}

/// Could it be meant for this scaler? Also where it is misspelt: then it is to be said.
fn is_ours(trigger: &Value) -> bool {
    let kind = trigger["type"].as_str().unwrap_or_default();
    if kind == "aws-kinesis-stream" {
        return true;
    }
    let external = kind.is_empty() || is_template(kind) || nearest(kind, TYPES).is_some();
    let mut keys = places(trigger).filter_map(|(_, key)| right_key(key));
    // No other scaler has this one.
    keys.any(|key| external || key == KEDAS_KEYS[0])
}

fn is_template(text: &str) -> bool {
    text.contains("{{")
}

fn unrendered(key: &str) -> String {
    format!("{key} is a template with {{{{ }}}}: want it rendered, as `helm template` does")
}

/// Where keys of ours may stand, right or wrong, each with the key.
fn places(trigger: &Value) -> impl Iterator<Item = (&'static str, &String)> {
    let in_metadata = keys(metadata(trigger).1).map(|key| ("", key));
    let beside = keys(trigger)
        .filter(|key| !BESIDE_METADATA.contains(&key.as_str()))
        .map(|key| ("beside metadata", key));
    let below = keys(&trigger["authenticationRef"])
        .filter(|key| *key != "name" && *key != "kind")
        .map(|key| ("under authenticationRef", key));
    in_metadata.chain(beside).chain(below)
}

fn keys(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().into_iter().flat_map(|it| it.keys())
}

/// The metadata, also under a key in the wrong case.
fn metadata(trigger: &Value) -> (&str, &Value) {
    let found = trigger.as_object().and_then(|trigger| {
        let mut keys = trigger.iter();
        keys.find(|(key, _)| key.eq_ignore_ascii_case("metadata"))
    });
    found.map_or(("metadata", &Value::Null), |(key, value)| (key, value))
}

/// How a key is written right: one of ours, or one that KEDA reads to reach the scaler.
fn right_key(written: &str) -> Option<String> {
    let ours = KEYS.iter().map(|key| key.name);
    let (key, right) = nearest(written, ours.chain(KEDAS_KEYS))?;
    // KEDA takes its own from no variable.
    let is_kedas = KEDAS_KEYS.contains(&key);
    Some(if is_kedas { key.to_owned() } else { right })
}

fn of_trigger(
    object: &Value,
    index: usize,
    trigger: &Value,
    objects: &[Object],
    variables: &HashMap<String, String>,
) -> Written {
    let name = object["metadata"]["name"].as_str().unwrap_or("(no name)");
    let namespace = namespace(object);
    let kind = trigger["type"].as_str().unwrap_or_default();
    let (scaling, wrong) = Scaling::of_object(object, trigger);
    let mut written = Written {
        place: format!("{namespace}/{name} triggers[{index}]"),
        namespace: namespace.to_owned(),
        kind: kind.to_owned(),
        refused: wrong,
        scaling: Some(scaling),
        ..Written::default()
    };
    if is_template(kind) {
        written.unknown.push(unrendered("type"));
    } else if !TYPES.contains(&kind) {
        let right = nearest(kind, TYPES).map_or(TYPES[0].to_owned(), |(_, right)| right);
        written.refused.push(format!("type {kind:?}: want {right}"));
    }
    let (key, metadata) = metadata(trigger);
    if key != "metadata" {
        written.refused.push(format!("{key}: want metadata"));
    }
    match metadata {
        Value::Null => {
            let wrong = "metadata: want the trigger's keys and values there";
            written.refused.push(wrong.to_owned());
        }
        Value::Object(pairs) => {
            for (key, value) in pairs {
                written.take(key, value);
            }
        }
        _ => written
            .refused
            .push("metadata: want keys and values".to_owned()),
    }
    let beside_triggers = keys(&object["spec"]).map(|key| ("beside triggers", key));
    let misplaced = places(trigger).filter(|(place, _)| !place.is_empty());
    for (place, key) in misplaced.chain(beside_triggers) {
        if let Some(right) = right_key(key) {
            let why = format!("not read {place}: want {right} under metadata");
            written.ignored.push((key.clone(), why));
        }
    }
    let environment = Environment::of_object(object, objects, variables);
    let mut unknown = environment.resolve(&mut written.metadata);
    written.unknown.append(&mut unknown);
    written.ignored.append(&mut ignored(&written.metadata));
    written
}

impl Written {
    /// One key of the metadata. Kubernetes takes no other values than text.
    fn take(&mut self, key: &str, value: &Value) {
        match value {
            Value::String(text) => {
                if is_template(text) && right_key(key).is_some() {
                    self.unknown.push(unrendered(key));
                    return;
                }
                self.metadata.insert(key.to_owned(), text.clone());
            }
            // An empty value counts as absent, whatever it is.
            Value::Null => {}
            _ if right_key(key).is_some() => self.refused.push(format!(
                "{key} is {value}: want text, in quotes; KEDA refuses the object otherwise"
            )),
            // It may be a secret.
            _ => self.refused.push(format!("{key}: want text, in quotes")),
        }
    }
}

/// The keys of metadata that are not read, in order, and why. Never their values.
fn ignored(metadata: &HashMap<String, String>) -> Vec<(String, String)> {
    let mut ignored: Vec<_> = metadata
        .keys()
        .filter_map(|key| {
            let plain = key.strip_suffix(FROM_ENV).unwrap_or(key);
            let is_ours = KEYS.iter().any(|known| known.name == plain);
            if is_ours || KEDAS_KEYS.contains(&key.as_str()) {
                return None;
            }
            let why = match right_key(key) {
                Some(right) => format!("not read: want {right}"),
                None if BESIDE_METADATA[1..].contains(&key.as_str()) => {
                    "not read under metadata: want it beside metadata".to_owned()
                }
                None if key.ends_with(FROM_ENV) => {
                    "ignored; KEDA puts the variable's value in its place".to_owned()
                }
                None => "ignored".to_owned(),
            };
            Some((key.clone(), why))
        })
        .collect();
    ignored.sort();
    ignored
}
