//! The policies in `examples/iam`, as sets of calls.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// An action such as `kinesis:ListShards`, and what it is about, such as `stream/orders`.
pub type Permission = (String, String);

/// What a policy allows, each action on each resource; `names` are the policy's names and the
/// test's.
pub fn allowed(file: &str, names: &[(&str, &str)]) -> BTreeSet<Permission> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("examples/iam"))
        .find(|folder| folder.is_dir())
        .unwrap();
    let policy: Value =
        serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        for action in texts(&statement["Action"]) {
            for resource in texts(&statement["Resource"]) {
                // arn:PARTITION:SERVICE:REGION:ACCOUNT:…
                let resource = resource.splitn(6, ':').last().unwrap();
                if resource == "*" {
                    // Of no stream.
                    allowed.insert((action.to_owned(), "stream/".to_owned()));
                    continue;
                }
                let (kind, name) = resource.split_once('/').unwrap();
                let name = names
                    .iter()
                    .find_map(|(theirs, ours)| (*theirs == name).then_some(*ours))
                    .unwrap_or_else(|| panic!("{file} has {name}, which the test does not know"));
                allowed.insert((action.to_owned(), format!("{kind}/{name}")));
            }
        }
    }
    allowed
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        list => list
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap())
            .collect(),
    }
}

/// Calls as the permissions that they need.
pub fn needed(
    kinesis: &[embedded_kinesis::Call],
    dynamodb: BTreeSet<(String, String)>,
    access_key: &str,
) -> BTreeSet<Permission> {
    let kinesis = kinesis
        .iter()
        .filter(|call| call.access_key_id == access_key)
        .map(|call| match (&call.stream, &call.role_arn) {
            (_, Some(role)) => (
                format!("sts:{}", call.operation),
                role.rsplit(':').next().unwrap().to_owned(),
            ),
            (stream, None) => (
                format!("kinesis:{}", call.operation),
                format!("stream/{}", stream.as_deref().unwrap_or_default()),
            ),
        });
    let dynamodb = dynamodb
        .into_iter()
        .map(|(operation, table)| (format!("dynamodb:{operation}"), format!("table/{table}")));
    kinesis.chain(dynamodb).collect()
}
