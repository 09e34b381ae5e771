//! The files under `examples/` are what the scaler reads and accepts.

use std::{collections::HashMap, fs, path::Path};

use keda_kinesis_scaler::{
    config::{Config, PolicyDefault},
    trigger::{Trigger, policy::Policy},
};
use rstest::rstest;
use serde_json::Value;

fn example(path: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(path),
    )
    .unwrap()
}

fn config() -> Config {
    Config::parse(&example("config.yaml"), "examples/config.yaml").unwrap()
}

#[test]
fn the_config_is_read_and_shows_the_defaults() {
    let example = config();
    assert_eq!(example.policy.len(), 1);
    let mut defaults = Config::default();
    defaults.aws.region = Some("eu-west-1".to_owned());
    defaults.policy.clone_from(&example.policy);
    assert_eq!(example, defaults);
}

#[test]
fn the_configs_commented_tls_line_is_right() {
    let text = example("config.yaml");
    let line = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("# ")
                .filter(|line| line.starts_with("tls:"))
        })
        .unwrap();
    let tls = Config::parse(line, "tls").unwrap().tls.unwrap();
    assert!(tls.client_ca.is_some());
}

#[test]
fn every_scaled_object_is_accepted() {
    let policy = Policy::new(config().policy, PolicyDefault::Allow);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scaledobjects");
    let mut seen = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let object: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(object["kind"], "ScaledObject");
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        for trigger in object["spec"]["triggers"].as_array().unwrap() {
            // KEDA takes nothing but text, so each value must be text.
            let metadata: HashMap<String, String> =
                serde_json::from_value(trigger["metadata"].clone()).unwrap();
            assert!(metadata["scalerAddress"].ends_with(":6000"));
            let parsed = Trigger::parse(&metadata, None)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            policy
                .check(namespace, &parsed)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            seen.push(trigger["type"].as_str().unwrap().to_owned());
        }
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "external",
            "external",
            "external-push",
            "external-push",
            "external-push"
        ]
    );
}

/// Every YAML block of a document.
fn blocks(document: &str) -> Vec<Value> {
    let document =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let blocks = document.split("```yaml\n").skip(1);
    blocks
        .map(|rest| serde_yaml::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect()
}

#[rstest]
fn the_triggers_of_documents_are_accepted(
    #[values(
        "README.md",
        "docs/install.md",
        "docs/migrate.md",
        "docs/multilang.md",
        "docs/lag.md"
    )]
    document: &str,
) {
    let blocks = blocks(document);
    let triggers = blocks
        .iter()
        .flat_map(|block| block["triggers"].as_array().cloned().unwrap_or_default());
    let metadata: Vec<HashMap<String, String>> = triggers
        .map(|trigger| serde_json::from_value(trigger["metadata"].clone()).unwrap())
        .collect();
    assert!(!metadata.is_empty(), "no triggers in {document}");
    for metadata in metadata {
        Trigger::parse(&metadata, None).unwrap();
    }
}
