//! What is found in files, and what is said of it, without asking AWS.

use std::collections::HashMap;

use rstest::rstest;

use super::{ask::ask, manifest::Written, *};

/// Everything that is found in a file.
fn read(file: &str) -> (Vec<Written>, Files) {
    read_with(file.as_bytes(), &[])
}

fn read_with(file: &[u8], variables: &[(&str, &str)]) -> (Vec<Written>, Files) {
    let mut files = Files::default();
    files.add("f.yaml", file);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: HashMap<_, _> = variables.iter().map(owned).collect();
    let written = manifest::of_files(&mut files, &variables);
    (written, files)
}

fn unread(files: &Files) -> Vec<String> {
    let unread = files.unread.iter();
    unread
        .map(|it| format!("{}: {}", it.place, it.wrong))
        .collect()
}

fn places(found: &[Written]) -> Vec<&str> {
    found.iter().map(|it| it.place.as_str()).collect()
}

/// A ScaledObject whose trigger has this metadata, in flow style.
fn object(name: &str, metadata: &str) -> String {
    format!(
        "kind: ScaledObject\nmetadata: {{name: {name}}}\nspec:\n  scaleTargetRef: {{name: app}}\n  triggers:\n  - type: external\n    metadata: {{{metadata}}}\n"
    )
}

fn orders() -> String {
    object("orders", "streamName: orders")
}

#[test]
fn triggers_of_ours_are_found_among_others() {
    let file = r#"
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
    - type: aws-sqs-queue
      metadata: {awsRegion: eu-west-1}
    - type: external-push
      metadata: {scalerAddress: "scaler:6000", streamName: orders}
    - type: external
      metadata: {scalerAddress: "scaler:6000"}
    - type: external
      metadata: {STREAMNAME: orders}
    - type: external
      metadata: {streamArnFromEnv: ARN}
---
kind: ScaledJob
metadata: {name: payments}
spec:
  triggers:
    - type: aws-kinesis-stream
      metadata: {streamName: payments, shardCount: "3"}
"#;
    let (found, files) = read(file);
    assert_eq!(
        places(&found),
        [
            "shop/orders triggers[2]",
            "shop/orders triggers[3]",
            "shop/orders triggers[4]",
            "shop/orders triggers[5]",
            "default/payments triggers[0]"
        ]
    );
    assert_eq!(found[0].namespace, "shop");
    assert_eq!(found[4].metadata["shardCount"], "3");
    assert!(files.unread.is_empty());
}

#[rstest]
#[case::yaml("kind: List\nitems:\n- kind: Pod\n- ITEM")]
#[case::of_its_kind("kind: PodList\nitems:\n- {}\n- ITEM")]
#[case::within_a_list("kind: List\nitems:\n- kind: List\n- kind: List\n  items:\n  - ITEM")]
#[case::json(r#"{"kind": "List", "items": [{"kind": "Pod"}, ITEM]}"#)]
#[case::json_tabs("{\n\t\"kind\": \"List\",\n\t\"items\": [\n\t\tITEM\n\t]\n}")]
#[case::json_in_a_row("{\"kind\": \"Pod\"}\n{\"kind\": \"Pod\"} ITEM\n")]
#[case::array("[{\"kind\": \"Pod\"}, ITEM]")]
fn lists_are_looked_into(#[case] file: &str) {
    const ITEM: &str = r#"{"kind": "ScaledObject", "metadata": {"name": "orders"}, "spec": {"triggers": [{"type": "external", "metadata": {"streamName": "orders"}}]}}"#;
    let (found, files) = read(&file.replace("ITEM", ITEM));
    assert_eq!(places(&found), ["default/orders triggers[0]"]);
    assert!(unread(&files).is_empty(), "{:?}", unread(&files));
}

#[test]
fn items_have_the_kind_of_their_list() {
    let object = orders().replace("kind: ScaledObject\n", "");
    let item = object.replace('\n', "\n  ");
    let (found, files) = read(&format!("kind: ScaledObjectList\nitems:\n- {item}"));
    assert_eq!(
        places(&found),
        ["default/orders triggers[0]"],
        "{:?}",
        unread(&files)
    );
}

#[rstest]
#[case::no_yaml("a: [", "neither YAML nor JSON")]
#[case::tab("a:\n\tb: 1", "neither YAML nor JSON")]
#[case::text("Error: no such release", "")]
#[case::only_words("no such release", "no object: want apiVersion, kind")]
#[case::template(
    "{{- if .Values.on }}\na: {{ .Values.a }}\n{{- end }}",
    "want it rendered"
)]
#[case::value("a: {{ .Values.a }}", "want it rendered")]
#[case::twice("a: 1\na: 2", "a is given twice, at line")]
#[case::cut_json(r#"{"kind": "List", "items": ["#, "neither YAML nor JSON")]
#[case::no_items("kind: PodList\nitems: 3", "want items")]
#[case::no_alias("a: *b", "neither YAML nor JSON")]
fn a_broken_neighbour_is_named_and_passed_over(#[case] neighbour: &str, #[case] says: &str) {
    let file = format!(
        "{}---\n{neighbour}\n---\n{}",
        orders(),
        object("two", "streamArn: x")
    );
    let (found, files) = read(&file);
    assert_eq!(
        places(&found),
        ["default/orders triggers[0]", "default/two triggers[0]"]
    );
    let unread = unread(&files);
    if says.is_empty() {
        assert!(unread.is_empty(), "{unread:?}");
    } else {
        assert_eq!(unread.len(), 1, "{unread:?}");
        assert!(unread[0].starts_with("f.yaml document 2"), "{unread:?}");
        assert!(unread[0].contains(says), "{unread:?}");
    }
}

#[test]
fn limits_hold_for_each_document() {
    let deep = "[".repeat(5_000);
    let bomb = "a: &a [x, x]\n".to_owned()
        + &(0..40)
            .map(|n| {
                let last = if n == 0 {
                    "a".to_owned()
                } else {
                    format!("b{}", n - 1)
                };
                format!(
                    "b{n}: &b{n} [{}]\n",
                    vec![format!("*{last}"); 20].join(", ")
                )
            })
            .collect::<String>();
    let many = "---\nkind: Pod\nmetadata: {name: x, labels: {a: b}}\n".repeat(3_000);
    let file = format!("{deep}\n---\n{bomb}\n{many}---\n{}", orders());
    let (found, files) = read(&file);
    assert_eq!(places(&found), ["default/orders triggers[0]"]);
    assert_eq!(files.unread.len(), 2, "{:?}", unread(&files));
}

#[test]
fn marks_encodings_line_ends_aliases_and_merges_are_read() {
    let crlf = orders().replace('\n', "\r\n");
    let marked = format!("\u{feff}kind: Pod\n---\n\u{feff}{crlf}\u{feff}---\n{crlf}");
    assert_eq!(read(&marked).0.len(), 2);
    let utf16: Vec<u8> = format!("\u{feff}{crlf}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(read_with(&utf16, &[]).0.len(), 1);
    let latin = [
        b"kind: Pod\nnote: caf\xe9\n---\n".as_slice(),
        orders().as_bytes(),
    ]
    .concat();
    let (found, files) = read_with(&latin, &[]);
    assert_eq!((found.len(), files.unread.len()), (1, 1));

    let merged = "
kind: ScaledObject
metadata: {name: orders}
x-base: &base {streamName: orders, awsRegion: eu-west-1}
spec:
  triggers:
  - &trigger
    type: external
    metadata: {<<: *base, shardCount: \"3\"}
  - *trigger
";
    let (found, files) = read(merged);
    assert_eq!(found.len(), 2, "{:?}", unread(&files));
    assert_eq!(found[1].metadata["streamName"], "orders");
    assert_eq!(found[1].metadata["shardCount"], "3");
}

#[rstest]
#[case(
    "streamName: orders, shardcount: '3'",
    "shardcount: not read: want shardCount"
)]
#[case(
    "streamName: orders, metricType: Value",
    "metricType: not read under metadata: want it beside"
)]
#[case("steamName: orders", "steamName: not read: want streamName")]
#[case(
    "stream_name_from_env: X",
    "stream_name_from_env: not read: want streamNameFromEnv"
)]
#[case(
    "scalerAddressFromEnv: X, streamName: orders",
    "scalerAddressFromEnv: not read: want scalerAddress"
)]
#[case(
    "streamName: orders}\n    shardCount: '3'\n    name: {",
    "shardCount: not read beside metadata: want shardCount under metadata"
)]
#[case(
    "streamName: orders}\n    authenticationRef: {name: x, awsRoleArn: arn",
    "awsRoleArn: not read under authenticationRef: want awsRoleArn under metadata"
)]
#[case(
    "streamName: orders}\n  shardCount: '3'\n  advanced: {",
    "shardCount: not read beside triggers: want shardCount under metadata"
)]
fn misspelt_and_misplaced_keys_are_named(#[case] metadata: &str, #[case] says: &str) {
    let (found, files) = read(&object("orders", metadata));
    assert_eq!(found.len(), 1, "{:?}", unread(&files));
    let ignored = found[0]
        .ignored
        .iter()
        .map(|(key, why)| format!("{key}: {why}"));
    let ignored: Vec<_> = ignored.collect();
    assert!(ignored.iter().any(|it| it.starts_with(says)), "{ignored:?}");
}

#[rstest]
#[case(
    "streamName: orders, shardCount: 3",
    "shardCount is 3: want text, in quotes"
)]
#[case(
    "streamName: orders}\n    metricType: Utilization\n    x: {",
    "metricType \"Utilization\": want AverageValue or Value"
)]
fn what_kubernetes_refuses_is_said(#[case] metadata: &str, #[case] says: &str) {
    let (found, _) = read(&object("orders", metadata));
    assert!(
        found[0].refused[0].starts_with(says),
        "{:?}",
        found[0].refused
    );
    let kind = orders().replace("type: external", "type: Exteral");
    assert_eq!(
        read(&kind).0[0].refused,
        ["type \"Exteral\": want external"]
    );
    let kind = object("orders", "scalerAddress: x").replace("type: external", "type: kinesis");
    assert_eq!(
        read(&kind).0[0].refused,
        ["type \"kinesis\": want external"]
    );
    let kind = orders().replace("type: external", "type: '{{ .Values.type }}'");
    assert!(read(&kind).0[0].unknown[0].starts_with("type is a template"));
}

#[rstest]
#[case("streamName", "shardCount: '3'")]
#[case("shardCount", "streamName: orders")]
#[case("scaleOn", "streamName: orders, lagThreshold: 30s")]
#[tokio::test]
async fn values_that_are_templates_cannot_be_judged(#[case] key: &str, #[case] beside: &str) {
    let metadata = format!("{beside}, {key}: '{{{{ .Values.it }}}}'");
    let (mut found, _) = read(&object("orders", &metadata));
    let config = Config::parse("{}", "test").unwrap();
    let report = ask(found.remove(0), &config).await;
    let Told::Unknown { unknown } = report.told else {
        panic!("{:?}", report.told)
    };
    assert_eq!(
        unknown,
        [format!(
            "{key} is a template with {{{{ }}}}: want it rendered, as `helm template` does"
        )]
    );
}

#[test]
fn variables_are_resolved_as_keda_does_or_said_to_be_known_in_the_cluster_only() {
    let object = object(
        "orders",
        "streamNameFromEnv: STREAM, shardCountFromEnv: COUNT, awsRegionFromEnv: REGION, awsEndpointFromEnv: NONE",
    );
    let deployment = "---
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers:
      - name: app
        env:
        - {name: STREAM, value: orders}
        - {name: COUNT, value: '3'}
        - {name: REGION, valueFrom: {configMapKeyRef: {name: x, key: y}}}
";
    let (found, _) = read(&object);
    assert_eq!(found[0].unknown.len(), 4);
    assert!(
        found[0].unknown[0].contains("known only in the cluster (the file has no Deployment app)")
    );

    let with = format!("{object}{deployment}");
    let (found, _) = read(&with);
    assert_eq!(found[0].metadata["streamNameFromEnv"], "orders");
    assert_eq!(found[0].metadata["shardCountFromEnv"], "3");
    assert!(!found[0].metadata.contains_key("awsEndpointFromEnv"));
    assert_eq!(
        found[0].unknown,
        [
            "awsRegionFromEnv \"REGION\": known only in the cluster (the container has it by valueFrom): want --env REGION=VALUE"
        ]
    );

    let (found, _) = read_with(with.as_bytes(), &[("REGION", "eu-west-1"), ("COUNT", "4")]);
    assert!(found[0].unknown.is_empty());
    assert_eq!(found[0].metadata["shardCountFromEnv"], "4");
    assert_eq!(found[0].metadata["awsRegionFromEnv"], "eu-west-1");
}

#[rstest]
#[case::several("  - {type: cron, metadata: {}}", "it has 2 triggers")]
#[case::value("    metricType: Value", "metricType Value: the HPA multiplies")]
#[case::formula(
    "  advanced: {scalingModifiers: {formula: a + b}}",
    "scalingModifiers.formula decides"
)]
fn replicas_are_not_said_where_more_decides(#[case] more: &str, #[case] says: &str) {
    let (found, files) = read(&format!("{}{more}\n", orders()));
    assert!(unread(&files).is_empty(), "{:?}", unread(&files));
    let outcome = found[0].scaling.as_ref().unwrap().outcome(5, true);
    assert_eq!(outcome.replicas, None);
    assert_eq!(outcome.words, "active");
    assert!(outcome.left_out[0].starts_with(says), "{outcome:?}");
}

#[test]
fn jobs_pauses_and_fallbacks_are_said() {
    let job = orders().replace("kind: ScaledObject", "kind: ScaledJob");
    let outcome = read(&job).0[0].scaling.as_ref().unwrap().outcome(5, true);
    assert_eq!(outcome.replicas, None);
    assert!(
        outcome.left_out[0].starts_with("a ScaledJob starts jobs"),
        "{outcome:?}"
    );

    let annotated = |annotation: &str| {
        let annotations =
            format!("{{name: orders, annotations: {{autoscaling.keda.sh/{annotation}}}}}");
        let file = orders().replace("{name: orders}", &annotations);
        read(&file).0[0].scaling.as_ref().unwrap().outcome(5, true)
    };
    for paused in ["paused: 'true'", "paused-replicas: '0'"] {
        let outcome = annotated(paused);
        assert_eq!(outcome.replicas, None);
        assert!(outcome.left_out[0].starts_with("paused by"), "{outcome:?}");
    }
    for off in ["paused: 'false'", "paused: '0'"] {
        assert_eq!(annotated(off).replicas, Some(5));
    }

    let file = orders() + "  fallback: {failureThreshold: 3, replicas: 6}\n";
    let scaling = read(&file).0.remove(0).scaling.unwrap();
    assert_eq!(
        scaling.fallback_words(true).unwrap(),
        "fallback: 6 replicas once it fails more than 3 times in a row"
    );
    assert!(
        scaling
            .fallback_words(false)
            .unwrap()
            .contains("never begins")
    );
}
