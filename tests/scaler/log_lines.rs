//! Log lines that a ScaledObject's author causes.

use crate::support::*;
use embedded_kinesis::EmbeddedKinesis;
use tonic::Code;

#[tokio::test]
async fn streams_that_are_not_there_are_told_once_a_minute_for_each_namespace() {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    let endpoint = kinesis.endpoint();
    let env = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let policy = "policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*']}]\n";
    let process = Process::start(policy, &env).await;
    let mut client = process.client().await;
    let mut ask = async |namespace: &str, stream: &str| {
        let keys = [
            ("streamName", stream),
            ("awsRegion", REGION),
            ("awsEndpoint", &endpoint),
        ];
        let mut object = object(metadata(&keys));
        object.namespace = namespace.to_owned();
        wait_for_code(&mut client, &object, Code::NotFound).await;
    };
    for number in 0..20 {
        ask("evil", &format!("missing-{number}")).await;
    }
    ask("shop", "also-missing").await;
    process.logged("stream also-missing").await;
    let log = process.log();
    let told = log.lines().filter(|line| line.contains("WARN"));
    let told = told.filter(|line| line.contains("ResourceNotFoundException"));
    assert_eq!(told.count(), 2, "{log}");
}
