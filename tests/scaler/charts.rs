//! The chart's configuration starts the real binary, and its dashboard and rules name metrics that
//! the binary exports.

use std::{fs, path::Path};

use crate::support::world::Application;
use crate::support::*;
use keda_kinesis_scaler::config::Config;
use serde_json::Value;
use test_support::queries;

fn chart(file: &str) -> String {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/keda-kinesis-scaler");
    fs::read_to_string(chart.join(file)).unwrap()
}

/// `config` of values.yaml, as JSON, which YAML takes.
fn config_of_the_values() -> String {
    let values: Value = serde_yaml::from_str(&chart("values.yaml")).unwrap();
    values["config"].to_string()
}

#[test]
fn the_values_show_the_defaults_and_every_key() {
    let config = config_of_the_values();
    let defaults = Config::default();
    assert_eq!(Config::parse(&config, "values.yaml").unwrap(), defaults);
    let keys = |yaml: &str| {
        let mut all: Value = serde_yaml::from_str(yaml).unwrap();
        // Where it listens, TLS, and what is logged are values of the chart's own.
        for key in ["listen", "admin", "tls", "logLevel"] {
            all.as_object_mut().unwrap().remove(key);
        }
        let aws: Vec<_> = all["aws"].as_object().unwrap().keys().cloned().collect();
        let top = all.as_object().unwrap().keys().cloned();
        let mut keys: Vec<_> = top.chain(aws).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&config), keys(&defaults.to_yaml().unwrap()));
}

/// As the ConfigMap has it when everything is on; the files of TLS are not here.
#[test]
fn the_config_map_with_everything_on_is_read() {
    let golden = chart("ci/everything.golden.yaml");
    let (_, text) = golden.split_once("\n  config.yaml: |\n").unwrap();
    let lines = text.lines().take_while(|line| line.starts_with("    "));
    let text: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
    let config = Config::parse(&text, "config.yaml").unwrap();
    assert!(config.per_shard_metrics);
    assert!(config.tls.unwrap().client_allowed_sans.is_some());
    assert_eq!(
        config.policy[0].tables.as_deref(),
        Some(&["orders-*".to_owned()][..])
    );
}

#[tokio::test]
async fn the_values_configuration_starts_the_binary() {
    let env = [("AWS_REGION", REGION)];
    let process = Process::start(&config_of_the_values(), &env).await;
    let object = object(metadata(&[("streamName", "orders")]));
    let spec = process.client().await.get_metric_spec(object).await;
    assert_eq!(spec.unwrap().into_inner().metric_specs.len(), 1);
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert!(status.success(), "{log:?}");
}

#[tokio::test]
async fn dashboard_and_rules_name_what_is_exported() {
    let application = Application::with(2, |config| config.per_shard_metrics = true).await;
    let mut client = application.stack.client().await;
    let worker = application.run("one", 0);
    application.put("a").await;
    application
        .stack
        .kinesis
        .wait_for_calls("GetRecords", 2)
        .await;
    wait_for_value(&mut client, &application.trigger("lag", &[]), 1.0).await;
    let age = "keda_kinesis_scaler_shard_oldest_unread_age_seconds";
    let missing = application.stack.object("not-there", &[]);
    wait_for_code(&mut client, &missing, tonic::Code::NotFound).await;
    let wanted = [age, "keda_kinesis_scaler_failing_object"];
    let has_all = |text: &str| {
        let exported = queries::exported(text);
        wanted.iter().all(|name| exported.contains(name))
    };
    let scrape = scraped(application.stack.admin, age, has_all).await;
    worker.stop().await;

    let exported = queries::exported(&scrape);
    let files = [
        "dashboards/keda-kinesis-scaler.json",
        "templates/prometheusrule.yaml",
    ];
    for file in files {
        let text = chart(file);
        let named = queries::named(&text, "keda_kinesis_scaler_");
        assert!(!named.is_empty());
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(
            unknown.is_empty(),
            "{file} names {unknown:?}, of {exported:?}"
        );
    }
    // And nothing is missing on the dashboard.
    let dashboard = chart(files[0]);
    let shown = queries::named(&dashboard, "keda_kinesis_scaler_");
    let family = |name: &str| {
        let sample = ["_bucket", "_sum", "_count"];
        sample
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name)
            .to_owned()
    };
    for name in exported.iter().filter(|name| name.starts_with("keda_")) {
        assert!(
            shown.iter().any(|shown| family(shown) == family(name)),
            "the dashboard does not show {name}"
        );
    }
}
