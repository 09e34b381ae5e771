//! Metrics, alerts and log lines, as the documents have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::support::{world::Application, *};
use embedded_kinesis::{FOREVER, Fault};
use test_support::{promtool, queries};

const PREFIX: &str = "keda_kinesis_scaler_";

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A scrape in which every metric has a sample.
async fn everything() -> String {
    let application = Application::with(2, |config| config.per_shard_metrics = true).await;
    let mut client = application.stack.client().await;
    let worker = application.run("one", 0);
    application.put("a").await;
    wait_for_value(&mut client, &application.trigger("lag", &[]), 1.0).await;
    let missing = application.stack.object("not-there", &[]);
    wait_for_code(&mut client, &missing, tonic::Code::NotFound).await;
    let all = |text: &str| {
        ["shard_oldest_unread_age_seconds{", "failing_object{"]
            .iter()
            .all(|name| text.contains(&format!("{PREFIX}{name}")))
    };
    let scrape = scraped(application.stack.admin, "every metric", all).await;
    worker.stop().await;
    scrape
}

/// The families of a scrape, each with its type, under the names of its samples.
fn families(scrape: &str) -> BTreeMap<String, &str> {
    let types = scrape.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let end = if kind == "counter" { "_total" } else { "" };
        Some((format!("{name}{end}"), kind))
    });
    types.collect()
}

/// The first cell of each row of a table, as code.
fn first_cells(table: &str) -> BTreeSet<String> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

fn between<'a>(text: &'a str, mark: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {mark}:begin -->")).unwrap();
    rest.split_once(&format!("<!-- {mark}:end -->")).unwrap().0
}

#[tokio::test]
async fn the_guide_names_the_metrics_that_are_exported() {
    let scrape = everything().await;
    let exported: BTreeSet<_> = families(&scrape).into_keys().collect();
    let guide = file("docs/operations.md");
    let guide = first_cells(between(&guide, "metrics")).into_iter();
    let whole = |name: String| match name.starts_with("process_") {
        true => name,
        false => format!("{PREFIX}{name}"),
    };
    assert_eq!(guide.map(whole).collect::<BTreeSet<_>>(), exported);
}

/// What `promtool check metrics` holds names to.
#[tokio::test]
async fn names_are_as_prometheus_wants_them() {
    let scrape = everything().await;
    let families = families(&scrape);
    let helps: BTreeSet<_> = scrape
        .lines()
        .filter_map(|line| {
            let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
            (help.len() > 1).then_some(name)
        })
        .collect();
    let samples = queries::exported(&scrape);
    let units = [
        "milliseconds",
        "minutes",
        "hours",
        "kilobytes",
        "megabytes",
        "percent",
    ];
    for (name, kind) in &families {
        let lower = name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(lower && !name.contains("__"), "{name}");
        let words: Vec<_> = name.split('_').collect();
        assert!(
            !words.iter().any(|word| units.contains(word)),
            "{name}: want a base unit"
        );
        assert!(
            !words
                .iter()
                .any(|word| ["counter", "gauge", "histogram", "metric"].contains(word)),
            "{name} says its type"
        );
        let reserved = ["_count", "_sum", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end));
        assert!(!reserved, "{name}");
        assert_eq!(
            name.ends_with("_total"),
            *kind == "counter",
            "{name} is a {kind}"
        );
        assert!(
            helps.contains(name.trim_end_matches("_total")),
            "{name} has no help"
        );
        let age = name.contains("_age") || name.contains("duration") || name.ends_with("_time");
        assert!(!age || name.ends_with("_seconds"), "{name}: want its unit");
        let sample = if *kind == "histogram" {
            format!("{name}_count")
        } else {
            name.clone()
        };
        assert!(samples.contains(&*sample), "{name} has no sample");
    }
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    for labels in samples.filter_map(|line| Some(line.split_once('{')?.1)) {
        // A name stands before each `="`, at the start or after a comma.
        let parts: Vec<_> = labels.split("=\"").collect();
        for part in &parts[..parts.len() - 1] {
            let name = part.rsplit(',').next().unwrap();
            let lower = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            assert!(lower, "{name} in {labels}");
        }
    }
    // A series twice is dropped by Prometheus with an error.
    let series = scrape.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = series
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let distinct: BTreeSet<_> = series.iter().collect();
    assert_eq!(series.len(), distinct.len());
    promtool::check_metrics("names_are_as_prometheus_wants_them", &scrape);
}

#[test]
fn prometheus_takes_the_rules_of_both_charts() {
    for chart in ["keda-kinesis-scaler", "kinesis-to-dynamodb"] {
        let golden = file(&format!("charts/{chart}/ci/everything.golden.yaml"));
        let documents = golden.split("\n---\n");
        let rules = documents.filter(|text| text.contains("\nkind: PrometheusRule\n"));
        let mut checked = 0;
        for rules in rules {
            let rules: serde_json::Value = serde_yaml::from_str(rules).unwrap();
            let groups = serde_json::json!({"groups": rules["spec"]["groups"]});
            promtool::check_rules(
                "prometheus_takes_the_rules_of_both_charts",
                &groups.to_string(),
            );
            checked += 1;
        }
        assert_eq!(checked, 1, "{chart}");
    }
}

/// Shards and leases are read all the same.
#[tokio::test]
async fn a_watcher_whose_probes_fail_is_not_fresh() {
    let application = Application::start(2).await;
    let mut client = application.stack.client().await;
    let worker = application.run("one", 0);
    eventually("the worker's leases", application.held(2)).await;
    let object = application.trigger("lag", &[]);
    answered_activity(&mut client, &object).await;
    let is = async |state: &str| {
        let line = format!("{PREFIX}watchers{{state=\"{state}\"}} 1\n");
        scraped(application.stack.admin, &line, |text| text.contains(&line)).await;
    };
    let faults = application.stack.kinesis.faults();
    let kms = Fault::aws("KMSAccessDeniedException", "The key may not be used.");
    for (fault, state) in [
        // What was known of the shards stands in.
        (Fault::internal_error(), "stale"),
        // It does not where a denial is seen twice.
        (kms, "failing"),
        (Fault::access_denied(), "failing"),
    ] {
        is("fresh").await;
        faults.inject("GetRecords", fault, FOREVER);
        is(state).await;
        faults.clear();
    }
    is("fresh").await;

    // The same where nobody runs, and it is asked only when KEDA asks.
    worker.stop().await;
    faults.inject("GetRecords", Fault::access_denied(), FOREVER);
    wait_for_code(&mut client, &object, tonic::Code::PermissionDenied).await;
    is("failing").await;
}

#[test]
fn every_alert_has_its_section_and_links_to_it() {
    let rules = file("charts/keda-kinesis-scaler/ci/everything.golden.yaml");
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let guide = file("docs/operations.md");
    let sections: Vec<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(set(&alerts), set(&sections));
    for alert in alerts {
        let link = format!("docs/operations.md#{}", alert.to_lowercase());
        assert!(
            rules.contains(&link),
            "{alert} does not link to its section"
        );
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .collect()
}

/// The first words of the literal that each `warn!` of the sources has.
#[test]
fn every_warning_is_in_the_guide() {
    let guide = file("docs/operations.md");
    let known = between(&guide, "log");
    let mut warnings = 0;
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for call in text.split("warn!(").skip(1) {
            let Some(literal) = call
                .split_once('"')
                .and_then(|(_, rest)| rest.split_once('"'))
            else {
                continue;
            };
            // The longest run of words between the values.
            let words = literal
                .0
                .split(['{', '}'])
                .max_by_key(|part| part.len())
                .unwrap();
            let words = words.trim_matches([' ', '.', ':', '(', ')', '\\', '\n']);
            let words = words.split(['(', ':', ',', '\n']).next().unwrap().trim();
            if words.len() < 8 {
                continue;
            }
            warnings += 1;
            assert!(
                known.contains(words),
                "{}: {words:?} is not in the guide",
                path.display()
            );
        }
    }
    assert!(warnings > 8, "{warnings} found");
}
