//! Where the scaler's identity comes from: the real binary, the real chain, an STS and a
//! credentials endpoint on loopback.

use std::fs;

use crate::support::{self, Process, Signal, wait_for_code, wait_for_value};
use embedded_kinesis::{Call, EmbeddedKinesis};
use tempfile::TempDir;
use tonic::Code;

const DESCRIBE: &str = "DescribeStreamSummary";
const IRSA_ROLE: &str = "arn:aws:iam::111122223333:role/scaler";
const POD_ROLE: &str = "arn:aws:iam::111122223333:role/pod";
const TEAM_ROLE: &str = "arn:aws:iam::111122223333:role/keda-team-a";

const CONFIG: &str = "
    aws: {refresh: 50ms, timeout: 2s, callsPerSecond: 1000, maxStale: 200ms}
    policy: [{namespaces: [team-a], endpoints: ['http://127.0.0.1:*'], roles: ['arn:aws:iam::111122223333:role/keda-*']}]
";

/// An embedded Kinesis with one stream, and what a child process needs to use it.
struct Cloud {
    kinesis: EmbeddedKinesis,
    endpoint: String,
    files: TempDir,
}

impl Cloud {
    async fn start() -> Self {
        let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default())
            .await
            .unwrap();
        let aws = support::aws(&kinesis);
        support::create_stream(&aws, "orders", 3).await;
        kinesis.clear_calls();
        Self {
            endpoint: kinesis.endpoint(),
            kinesis,
            files: TempDir::new().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn scaler(&self, env: &[(&str, &str)]) -> Process {
        let mut all = vec![
            ("AWS_REGION", support::REGION),
            ("AWS_ENDPOINT_URL_STS", &self.endpoint),
        ];
        all.extend_from_slice(env);
        Process::start(CONFIG, &all).await
    }

    fn object(&self, more: &[(&str, &str)]) -> keda_kinesis_scaler::proto::ScaledObjectRef {
        let mut all = vec![
            ("streamName", "orders"),
            ("awsEndpoint", self.endpoint.as_str()),
        ];
        all.extend_from_slice(more);
        support::object(support::metadata(&all))
    }

    /// The value comes, and the calls that brought it are returned.
    async fn answers(&self, env: &[(&str, &str)], more: &[(&str, &str)]) -> Vec<Call> {
        let process = self.scaler(env).await;
        wait_for_value(&mut process.client().await, &self.object(more), 3.0).await;
        process.signal(Signal::TERM);
        let (status, log) = process.ended().await;
        assert!(status.success());
        let log = log.join("\n");
        for secret in ["very-secret", "web-identity-token", "pod-token"] {
            assert!(!log.contains(secret), "a secret is logged: {log}");
        }
        self.kinesis.calls()
    }
}

fn keys(calls: &[Call], operation: &str) -> Vec<String> {
    let calls = calls.iter().filter(|call| call.operation == operation);
    let mut keys: Vec<_> = calls.map(|call| call.access_key_id.clone()).collect();
    keys.dedup();
    keys
}

const STATIC: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIDENV"),
    ("AWS_SECRET_ACCESS_KEY", "very-secret"),
];

#[tokio::test]
async fn keys_in_the_environment() {
    let cloud = Cloud::start().await;
    let calls = cloud.answers(&STATIC, &[]).await;
    assert_eq!(keys(&calls, DESCRIBE), ["AKIDENV"]);
    assert!(calls.iter().all(|call| call.region == support::REGION));
}

#[tokio::test]
async fn a_profile() {
    let cloud = Cloud::start().await;
    let file = cloud.file(
        "credentials",
        "[scaler]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = very-secret\n",
    );
    let env = [
        ("AWS_SHARED_CREDENTIALS_FILE", file.as_str()),
        ("AWS_PROFILE", "scaler"),
    ];
    let calls = cloud.answers(&env, &[]).await;
    assert_eq!(keys(&calls, DESCRIBE), ["AKIDPROFILE"]);
}

#[tokio::test]
async fn irsa() {
    let cloud = Cloud::start().await;
    let file = cloud.file("token", "web-identity-token");
    cloud
        .kinesis
        .identities()
        .require_web_identity_token("web-identity-token");
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ROLE_ARN", IRSA_ROLE),
    ];
    let calls = cloud.answers(&env, &[]).await;
    let assumed: Vec<_> = calls
        .iter()
        .filter(|call| call.operation == "AssumeRoleWithWebIdentity")
        .collect();
    assert_eq!(assumed.len(), 1, "credentials are kept: {assumed:?}");
    assert_eq!(assumed[0].role_arn.as_deref(), Some(IRSA_ROLE));
    let [key] = &keys(&calls, DESCRIBE)[..] else {
        panic!("one session");
    };
    assert!(key.starts_with("ASIA"), "{key}");
}

#[tokio::test]
async fn eks_pod_identity() {
    let cloud = Cloud::start().await;
    let file = cloud.file("token", "pod-token");
    cloud
        .kinesis
        .identities()
        .serve_container_credentials("pod-token", POD_ROLE);
    let uri = cloud.kinesis.container_credentials_uri();
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.as_str()),
    ];
    let calls = cloud.answers(&env, &[]).await;
    let keys = keys(&calls, DESCRIBE);
    assert!(keys.len() == 1 && keys[0].starts_with("ASIA"), "{keys:?}");
}

#[tokio::test]
async fn a_role_of_the_trigger_is_assumed_on_top() {
    let cloud = Cloud::start().await;
    cloud
        .kinesis
        .identities()
        .require_external_id(TEAM_ROLE, "team-a-1");
    let more = [("awsRoleArn", TEAM_ROLE), ("awsExternalId", "team-a-1")];
    let calls = cloud.answers(&STATIC, &more).await;
    let assumed: Vec<_> = calls
        .iter()
        .filter(|call| call.operation == "AssumeRole")
        .collect();
    assert_eq!(assumed.len(), 1, "credentials are kept: {assumed:?}");
    assert_eq!(assumed[0].access_key_id, "AKIDENV");
    assert_eq!(assumed[0].region, support::REGION);
    assert_eq!(assumed[0].external_id.as_deref(), Some("team-a-1"));
    assert!(!keys(&calls, DESCRIBE).contains(&"AKIDENV".to_owned()));
}

#[tokio::test]
async fn a_role_that_sts_refuses_is_named() {
    let cloud = Cloud::start().await;
    cloud.kinesis.identities().deny_role(TEAM_ROLE);
    let process = cloud.scaler(&STATIC).await;
    let mut client = process.client().await;
    let object = cloud.object(&[("awsRoleArn", TEAM_ROLE)]);
    let status = wait_for_code(&mut client, &object, Code::PermissionDenied).await;
    for wanted in [
        "AssumeRole",
        TEAM_ROLE,
        "AccessDenied",
        "trust policy",
        "orders",
    ] {
        assert!(
            status.message().contains(wanted),
            "{wanted} is missing in {}",
            status.message()
        );
    }
    assert_eq!(cloud.kinesis.count(DESCRIBE), 0);
    let (_, metrics) = support::http_get(process.admin, "/metrics").await;
    assert!(
        metrics.contains(r#"aws_calls_total{operation="AssumeRole",outcome="PERMISSION_DENIED"}"#)
    );
    cloud.kinesis.identities().allow_role(TEAM_ROLE);
    wait_for_value(&mut client, &object, 3.0).await;
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    let refusals = log.iter().filter(|line| line.contains("AccessDenied"));
    assert_eq!(
        refusals.count(),
        1,
        "one line, however often it was refused: {log:#?}"
    );
}

#[tokio::test]
async fn a_role_that_policy_refuses_is_never_asked_for() {
    let cloud = Cloud::start().await;
    let process = cloud.scaler(&STATIC).await;
    let mut client = process.client().await;
    let object = cloud.object(&[("awsRoleArn", "arn:aws:iam::111122223333:role/admin")]);
    let status = wait_for_code(&mut client, &object, Code::PermissionDenied).await;
    assert!(
        status.message().contains("awsRoleArn"),
        "{}",
        status.message()
    );
    assert_eq!(cloud.kinesis.count("*"), 0);
}

#[tokio::test]
async fn without_credentials_the_answer_says_so() {
    let cloud = Cloud::start().await;
    let process = cloud.scaler(&[]).await;
    let mut client = process.client().await;
    let status = wait_for_code(&mut client, &cloud.object(&[]), Code::Unauthenticated).await;
    for wanted in [
        "orders",
        support::REGION,
        "NoCredentials",
        "service account",
    ] {
        assert!(
            status.message().contains(wanted),
            "{wanted} is missing in {}",
            status.message()
        );
    }
    assert_eq!(support::http_get(process.admin, "/readyz").await.0, 200);
}

#[tokio::test]
async fn an_ended_session_is_renewed() {
    let cloud = Cloud::start().await;
    let file = cloud.file("token", "web-identity-token");
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ROLE_ARN", IRSA_ROLE),
    ];
    let process = cloud.scaler(&env).await;
    let mut client = process.client().await;
    let object = cloud.object(&[]);
    wait_for_value(&mut client, &object, 3.0).await;
    cloud.kinesis.clear_calls();
    // AWS no longer takes what by its own word holds for an hour.
    cloud.kinesis.identities().expire_sessions();
    let renewed = cloud.kinesis.wait_for_calls("AssumeRoleWithWebIdentity", 1);
    support::eventually("a new session", renewed).await;
    wait_for_value(&mut client, &object, 3.0).await;
}
