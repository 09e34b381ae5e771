//! docs/kind.md: what the charts render for a cluster without AWS, each container started as a
//! process with the arguments and the environment of its manifest.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use test_support::{Program, aws, skip::skip};

use crate::{documents::root, support::*};
use aws_sdk_kinesis::primitives::Blob;
use keda_kinesis_scaler::proto::ScaledObjectRef;

/// The objects that a chart renders with the values of the page; `.ci/charts golden` holds the file
/// to the chart.
struct Rendered(Vec<Value>);

impl Rendered {
    fn of(chart: &str) -> Self {
        let golden = root().join(format!("charts/{chart}/ci/kind.golden.yaml"));
        let text = fs::read_to_string(golden).unwrap();
        let documents = text.split("---\n").filter(|it| !it.trim().is_empty());
        Self(
            documents
                .map(|it| serde_yaml::from_str(it).unwrap())
                .collect(),
        )
    }

    fn one(&self, kind: &str) -> &Value {
        let of_kind = self.0.iter().find(|object| object["kind"] == kind);
        of_kind.unwrap_or_else(|| panic!("no {kind}"))
    }

    fn container(&self) -> &Value {
        &self.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    fn arguments(&self) -> Vec<String> {
        let arguments = self.container()["args"].as_array().into_iter().flatten();
        arguments
            .map(|it| it.as_str().unwrap().to_owned())
            .collect()
    }

    /// The container's environment; the name of the pod is `pod`.
    fn environment(&self, pod: &str) -> BTreeMap<String, String> {
        let variables = self.container()["env"].as_array().into_iter().flatten();
        let variable = |it: &Value| {
            let value = match it["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => pod,
                Some(other) => panic!("{other}"),
                None => it["value"].as_str().unwrap(),
            };
            (it["name"].as_str().unwrap().to_owned(), value.to_owned())
        };
        variables.map(variable).collect()
    }

    /// Its Service, as other pods write it.
    fn address(&self) -> String {
        let service = self.one("Service");
        let port = &service["spec"]["ports"][0];
        let container = self.container()["ports"].as_array().unwrap();
        let target = container.iter().find(|it| it["name"] == port["targetPort"]);
        assert!(target.is_some(), "{port} leads nowhere");
        let name = service["metadata"]["name"].as_str().unwrap();
        format!("{name}:{}", port["port"])
    }
}

/// A binary beside the scaler's. The workspace's tests build it; `--test scaler` alone does not.
fn binary(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_keda-kinesis-scaler")).with_file_name(name);
    path.exists().then_some(path)
}

#[tokio::test]
async fn the_containers_of_the_page_work_with_each_other() {
    let (Some(services), Some(consumer)) = (binary("embedded-aws"), binary("kinesis-to-dynamodb"))
    else {
        let why = "embedded-aws or kinesis-to-dynamodb is not built: cargo test --workspace does";
        return skip("kind", why, true);
    };
    let [of_aws, of_scaler, of_consumer] =
        ["embedded-aws", "keda-kinesis-scaler", "kinesis-to-dynamodb"].map(Rendered::of);

    // AWS. Here a free port of this machine stands for a Service.
    let mut arguments = of_aws.arguments();
    assert_eq!(arguments.remove(0), "--listen=[::]:4566");
    let process = Program::new(services)
        .args(["--listen=127.0.0.1:0"])
        .args(arguments)
        .start();
    let endpoint = |line: &str| {
        let rest = line.strip_prefix("export AWS_ENDPOINT_URL=")?;
        rest.split(' ').next().map(str::to_owned)
    };
    let endpoint = process.first("its endpoint", endpoint).await;
    let inside = format!("http://{}", of_aws.address());
    let here = |mut environment: BTreeMap<String, String>| {
        let asked = environment.insert("AWS_ENDPOINT_URL".to_owned(), endpoint.clone());
        assert_eq!(asked.as_deref(), Some(&*inside));
        environment
    };

    // The scaler, with its ConfigMap.
    let mounted = "--config=/etc/keda-kinesis-scaler/config.yaml";
    assert_eq!(
        of_scaler.arguments(),
        ["serve", mounted, "--log-format=json"]
    );
    let config = of_scaler.one("ConfigMap")["data"]["config.yaml"].as_str();
    let environment = here(of_scaler.environment("scaler"));
    let environment: Vec<_> = environment.iter().map(|(k, v)| (&**k, &**v)).collect();
    let scaler = Process::start(config.unwrap(), &environment).await;

    // What KEDA asks of it.
    let object = of_consumer.one("ScaledObject");
    let trigger = &object["spec"]["triggers"][0];
    let mut trigger: std::collections::HashMap<String, String> =
        serde_json::from_value(trigger["metadata"].clone()).unwrap();
    let address = trigger.remove("scalerAddress").unwrap();
    let (service, port) = address.split_once('.').unwrap();
    let port = port.split_once(':').unwrap().1;
    assert_eq!(format!("{service}:{port}"), of_scaler.address());
    let object = ScaledObjectRef {
        name: object["metadata"]["name"].as_str().unwrap().to_owned(),
        namespace: "default".to_owned(),
        scaler_metadata: trigger,
    };
    let mut client = scaler.client().await;

    let mut states = client.stream_is_active(object).await.unwrap().into_inner();
    let mut state = async |wanted: bool| {
        let told = async { while states.message().await.unwrap().unwrap().result != wanted {} };
        eventually(if wanted { "work" } else { "no work" }, told).await;
    };

    // Nobody ran yet, so one pod is wanted, for the leases; it finds nothing to read, and goes.
    let environment = here(of_consumer.environment("orders-7d9f"));
    let pod = Program::new(consumer)
        .args(of_consumer.arguments())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("ADMIN", "127.0.0.1:0");
    let pod = environment
        .iter()
        .fold(pod, |pod, (name, value)| pod.env(name, value));
    state(true).await;
    let mut first = pod.start();
    state(false).await;
    first.signal(Signal::TERM);
    assert!(first.ended().await.success());

    // One record: work, until another pod has made an item of it.
    let region = aws_sdk_kinesis::config::Region::from_static("eu-west-1");
    let sdk = aws::config(&endpoint).into_builder().region(region).build();
    let kinesis = aws_sdk_kinesis::Client::new(&sdk);
    let put = kinesis.put_record().stream_name("orders");
    let put = put.partition_key("ada@example.com");
    let put = put.data(Blob::new(r#"{"name": "Ada"}"#));
    put.send().await.unwrap();
    state(true).await;
    let mut second = pod.start();
    state(false).await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    let items = dynamodb.scan().table_name("users").send().await.unwrap();
    let [item] = items.items() else {
        panic!("{items:?}")
    };
    assert_eq!(item["email"].as_s().unwrap(), "ada@example.com");
    assert_eq!(item["processed_by"].as_s().unwrap(), "orders-7d9f");
    second.signal(Signal::TERM);
    assert!(second.ended().await.success());
}
