//! The end: what the table holds, and with `--keep` what to try.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use crate::{
    args::Scene,
    ledger::Verdict,
    stage::{APPLICATION, KEY, REGION, STREAM, Stage, TABLE},
    state::State,
    times::{Times, human},
};

/// Says what was sent, what is in the table, and where the picture is.
pub fn write(
    out: &mut impl Write,
    verdict: &Verdict,
    state: &State,
    picture: &Path,
    took: Duration,
) -> io::Result<()> {
    let replicas: Vec<String> = state
        .steps
        .iter()
        .filter(|step| step.reached.is_some() && step.goal.contains("pod"))
        .map(|step| step.goal.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    writeln!(out, "\nThe end, after {}", human(took))?;
    writeln!(out, "  pods                      {}", replicas.join(" → "))?;
    if let (Some(sent), Some(woken)) = (
        state.first_sent,
        state.scaled.iter().find(|it| it.from == 0),
    ) {
        let took = human(woken.at.saturating_sub(sent));
        writeln!(out, "  first record to wake      {took}")?;
    }
    writeln!(out, "  users sent                {}", verdict.sent)?;
    writeln!(out, "  in the table, as sent     {}", verdict.right)?;
    for (what, emails) in [
        ("missing", &verdict.missing),
        ("different", &verdict.wrong),
        ("never sent", &verdict.foreign),
    ] {
        if !emails.is_empty() {
            let some: Vec<&str> = emails.iter().take(5).map(String::as_str).collect();
            writeln!(out, "  {what:<25} {}: {} …", emails.len(), some.join(", "))?;
        }
    }
    let repeated: u64 = state.pods.iter().map(|pod| pod.repeated).sum();
    writeln!(out, "  delivered more than once  {repeated}")?;
    writeln!(out, "  users by the pod that wrote them")?;
    for pod in &state.pods {
        let users = verdict.by_pod.get(&pod.name).copied().unwrap_or_default();
        writeln!(out, "    {}  {users:>6}  {}", pod.name, pod.phase.name())?;
    }
    writeln!(out, "  picture                   {}", picture.display())?;
    out.flush()
}

/// Commands that work as printed, as long as everything is up.
pub fn write_commands(
    out: &mut impl Write,
    stage: &Stage,
    scene: Scene,
    times: &Times,
) -> io::Result<()> {
    let (metadata, then) = match scene {
        Scene::Shards => (
            stage.trigger_metadata(3),
            "# Four shards, at 3 for each pod: a second pod",
        ),
        Scene::Lag => (
            stage.lag_metadata(times.threshold),
            "# Four shards: each is read as far as there is something, then no pod again",
        ),
    };
    let metadata: BTreeMap<_, _> = metadata.into_iter().collect();
    let manifest = stage.out.join("scaledobject.yaml");
    fs::write(&manifest, scaled_object(&metadata))?;
    let manifest = manifest.display();
    let config = stage.config();
    let config = config.display();
    let object =
        serde_json::json!({"name": "consumer", "namespace": "default", "scalerMetadata": metadata});
    let metric = format!("aws-kinesis-{STREAM}");
    let request = serde_json::json!({"scaledObjectRef": object, "metricName": metric});
    let (scaler, admin) = (stage.scaler, stage.admin);
    let (kinesis, dynamodb) = (&stage.kinesis_endpoint, &stage.dynamodb_endpoint);
    writeln!(
        out,
        "
Everything stays up. Try, in another terminal:

# What KEDA asks the scaler
grpcurl -plaintext {scaler} list
grpcurl -plaintext -d '{object}' {scaler} externalscaler.ExternalScaler/GetMetricSpec
grpcurl -plaintext -d '{request}' {scaler} externalscaler.ExternalScaler/GetMetrics
grpcurl -plaintext -d '{object}' {scaler} externalscaler.ExternalScaler/IsActive
curl -s http://{admin}/metrics

# Why it answers so: for a browser
http://{admin}/explain/default/consumer

# The stream and the tables
export AWS_ACCESS_KEY_ID={KEY} AWS_SECRET_ACCESS_KEY={KEY} AWS_DEFAULT_REGION={REGION} AWS_PAGER=
aws kinesis describe-stream-summary --stream-name {STREAM} --endpoint-url {kinesis}
aws dynamodb scan --table-name {APPLICATION} --projection-expression 'leaseKey, leaseOwner, checkpoint' --endpoint-url {dynamodb}
echo '{{\"name\": \"Linus\", \"city\": \"Portland\"}}' | aws kinesis put-record --stream-name {STREAM} --partition-key linus@example.com --data fileb:///dev/stdin --endpoint-url {kinesis}
aws dynamodb get-item --table-name {TABLE} --key '{{\"email\": {{\"S\": \"linus@example.com\"}}}}' --endpoint-url {dynamodb}

# What KEDA would be told of a ScaledObject, before it is applied
AWS_ENDPOINT_URL_STS={kinesis} cargo run -- check -f {manifest} --config {config}

{then}
aws kinesis update-shard-count --stream-name {STREAM} --target-shard-count 4 --scaling-type UNIFORM_SCALING --endpoint-url {kinesis}

Ctrl-C ends it.
"
    )?;
    out.flush()
}

/// The manifest of the story's ScaledObject.
fn scaled_object(metadata: &BTreeMap<String, String>) -> String {
    let lines = metadata
        .iter()
        .map(|(key, value)| format!("        {key}: {value:?}\n"));
    let lines: String = lines.collect();
    format!(
        "apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: consumer
  namespace: default
spec:
  scaleTargetRef:
    name: consumer
  triggers:
    - type: external
      metadata:
{lines}"
    )
}
