//! The real default credential chain against the server, each kind in a process of its own, since
//! the chain is set by environment variables. This test binary is the process: run again, for one
//! test only.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::*;
use aws_config::BehaviorVersion;
use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_kinesis::config::SharedCredentialsProvider;
use aws_sdk_sts::error::ProvideErrorMetadata as _;
use embedded_kinesis::{Config, EmbeddedKinesis, Fault};

const ROLE: &str = "arn:aws:iam::444455556666:role/team/reader";

/// Not a test by itself: what the child process does.
#[tokio::test]
async fn child() {
    if std::env::var("EMBEDDED_KINESIS_CHILD").is_err() {
        return;
    }
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let identity = aws_sdk_sts::Client::new(&config)
        .get_caller_identity()
        .send()
        .await;
    match identity {
        Ok(identity) => println!("ARN={}", identity.arn().unwrap()),
        Err(error) => println!("ERROR={:?}", error.into_service_error()),
    }
    match aws_sdk_kinesis::Client::new(&config)
        .list_streams()
        .send()
        .await
    {
        Ok(streams) => println!("STREAMS={}", streams.stream_names().join(",")),
        Err(error) => println!("ERROR={error:?}"),
    }
}

/// Runs [`child`] with nothing but these variables (and what a process needs).
async fn run(server: &EmbeddedKinesis, variables: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "credentials::child",
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env_clear();
    command
        .env("EMBEDDED_KINESIS_CHILD", "1")
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env("AWS_REGION", REGION);
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent")
        .kill_on_drop(true);
    let output = command
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A server with a stream "own" in its account and "theirs" in the role's.
async fn two_accounts(config: Config) -> EmbeddedKinesis {
    let config = Config {
        access_keys: vec![("AKIDTHEIRS".into(), "444455556666".into())],
        ..config
    };
    let server = EmbeddedKinesis::start(config).await.unwrap();
    create(
        &client(&server.endpoint(), REGION, credentials("AKIDOWN")),
        "own",
        1,
    )
    .await;
    create(
        &client(&server.endpoint(), REGION, credentials("AKIDTHEIRS")),
        "theirs",
        1,
    )
    .await;
    server.clear_calls();
    server
}

#[tokio::test]
async fn keys_in_the_environment() {
    let server = two_accounts(Config::default()).await;
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDENV"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let said = run(&server, &keys).await;
    assert!(
        said.contains("ARN=arn:aws:iam::111122223333:user/embedded"),
        "{said}"
    );
    assert!(said.contains("STREAMS=own"), "{said}");
    assert!(
        server
            .calls()
            .iter()
            .all(|call| call.access_key_id == "AKIDENV")
    );
}

#[tokio::test]
async fn web_identity() {
    let server = two_accounts(Config::default()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "token.of.pod").unwrap();
    let path = file.path().to_str().unwrap();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_ROLE_SESSION_NAME", "pod"),
    ];
    server
        .identities()
        .require_web_identity_token("token.of.pod");
    let said = run(&server, &variables).await;
    assert!(
        said.contains("ARN=arn:aws:sts::444455556666:assumed-role/reader/pod"),
        "{said}"
    );
    assert!(said.contains("STREAMS=theirs"), "{said}");
    let calls = server.calls();
    let assume = calls
        .iter()
        .find(|call| call.operation == "AssumeRoleWithWebIdentity")
        .unwrap();
    assert_eq!(assume.web_identity_token.as_deref(), Some("token.of.pod"));
    assert_eq!(
        (assume.access_key_id.as_str(), assume.role_arn.as_deref()),
        ("", Some(ROLE))
    );
    assert!(!format!("{calls:?}").contains("token.of.pod"));
    let list = calls
        .iter()
        .find(|call| call.operation == "ListStreams")
        .unwrap();
    assert!(list.access_key_id.starts_with("ASIA"));
    assert_eq!(list.account, "444455556666");

    server.identities().require_web_identity_token("another");
    let said = run(&server, &variables).await;
    assert!(said.contains("InvalidIdentityToken"), "{said}");
}

#[tokio::test]
async fn container_credentials() {
    let server = two_accounts(Config::default()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "pod-token").unwrap();
    server
        .identities()
        .serve_container_credentials("pod-token", ROLE);
    let uri = server.container_credentials_uri();
    let path = file.path().to_str().unwrap();
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path),
    ];
    let said = run(&server, &variables).await;
    assert!(said.contains("assumed-role/reader/eks-embedded"), "{said}");
    assert!(said.contains("STREAMS=theirs"), "{said}");
    assert!(server.count("GetContainerCredentials") >= 1);

    std::fs::write(file.path(), "wrong").unwrap();
    let said = run(&server, &variables).await;
    assert!(
        said.contains("ERROR=") && !said.contains("STREAMS="),
        "{said}"
    );
}

async fn base(server: &EmbeddedKinesis) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .region(REGION)
        .endpoint_url(server.endpoint());
    loader
        .credentials_provider(credentials("AKIDOWN"))
        .load()
        .await
}

async fn assume(base: &SdkConfig, external_id: Option<&str>) -> SdkConfig {
    let builder = AssumeRoleProvider::builder(ROLE)
        .session_name("scaler")
        .configure(base);
    let builder = match external_id {
        Some(id) => builder.external_id(id),
        None => builder,
    };
    let provider = SharedCredentialsProvider::new(builder.build().await);
    base.to_builder().credentials_provider(provider).build()
}

#[tokio::test]
async fn an_assumed_role_sees_its_own_account() {
    let server = two_accounts(Config::default()).await;
    let base = base(&server).await;
    let assumed = assume(&base, None).await;
    let streams = aws_sdk_kinesis::Client::new(&assumed)
        .list_streams()
        .send()
        .await
        .unwrap();
    assert_eq!(streams.stream_names(), ["theirs"]);
    let streams = aws_sdk_kinesis::Client::new(&base)
        .list_streams()
        .send()
        .await
        .unwrap();
    assert_eq!(streams.stream_names(), ["own"]);
    let who = aws_sdk_sts::Client::new(&assumed)
        .get_caller_identity()
        .send()
        .await
        .unwrap();
    assert_eq!(
        (who.account(), who.arn()),
        (
            Some("444455556666"),
            Some("arn:aws:sts::444455556666:assumed-role/reader/scaler")
        )
    );
    let asked: HashMap<String, String> = server
        .calls()
        .into_iter()
        .map(|call| (call.operation, call.access_key_id))
        .collect();
    assert_eq!(asked["AssumeRole"], "AKIDOWN");
}

#[tokio::test]
async fn external_ids_and_denied_roles() {
    let server = two_accounts(Config::default()).await;
    let base = base(&server).await;
    server.identities().require_external_id(ROLE, "customer-7");
    for (external_id, good) in [
        (None, false),
        (Some("customer-8"), false),
        (Some("customer-7"), true),
    ] {
        let provider = assume(&base, external_id)
            .await
            .credentials_provider()
            .unwrap();
        assert_eq!(
            provider.provide_credentials().await.is_ok(),
            good,
            "{external_id:?}"
        );
    }
    server.identities().deny_role(ROLE);
    let sts = aws_sdk_sts::Client::new(&base);
    let ask = || {
        sts.assume_role()
            .role_arn(ROLE)
            .role_session_name("scaler")
            .external_id("customer-7")
            .send()
    };
    let error = ask().await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDenied"));
    assert_eq!(
        error.message(),
        Some(
            "User: arn:aws:iam::111122223333:user/embedded is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::444455556666:role/team/reader"
        )
    );
    server.identities().allow_role(ROLE);
    server.faults().inject(
        "AssumeRole",
        Fault::Aws {
            code: "Throttling".into(),
            message: "Rate exceeded".into(),
            status: 400,
        },
        1,
    );
    let given = ask().await.unwrap();
    assert_eq!(
        server.calls().last().unwrap().external_id.as_deref(),
        Some("customer-7")
    );
    assert!(
        given
            .credentials()
            .unwrap()
            .access_key_id()
            .starts_with("ASIA")
    );
    let wrong = sts
        .assume_role()
        .role_arn("arn:aws:iam::1:role/x")
        .role_session_name("scaler")
        .send()
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Some("ValidationError"));
}

#[tokio::test]
async fn sessions_end() {
    let server = two_accounts(Config {
        session_lifetime: Duration::from_secs(900),
        ..Config::default()
    })
    .await;
    let base = base(&server).await;
    let sts = aws_sdk_sts::Client::new(&base);
    let given = sts
        .assume_role()
        .role_arn(ROLE)
        .role_session_name("scaler")
        .send()
        .await
        .unwrap();
    let given = given.credentials().unwrap();
    let session = |token: &str| {
        let keys = aws_credential_types::Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(token.to_owned()),
            None,
            "test",
        );
        client(
            &server.endpoint(),
            REGION,
            SharedCredentialsProvider::new(keys),
        )
    };
    let kinesis = session(given.session_token());
    assert_eq!(open_shards(&kinesis, "theirs").await, 1);
    assert_eq!(
        code(session("forged").list_streams().send().await),
        "UnrecognizedClientException"
    );
    server.advance(Duration::from_secs(901));
    assert_eq!(
        code(kinesis.list_streams().send().await),
        "ExpiredTokenException"
    );

    let assumed = assume(&base, None).await;
    let kinesis = aws_sdk_kinesis::Client::new(&assumed);
    kinesis.list_streams().send().await.unwrap();
    server.identities().expire_sessions();
    assert_eq!(
        code(kinesis.list_streams().send().await),
        "ExpiredTokenException"
    );
}

/// A provider notices by itself that its session ends soon, and asks for another.
#[tokio::test]
async fn sessions_are_renewed() {
    let server = two_accounts(Config {
        session_lifetime: Duration::from_secs(1),
        ..Config::default()
    })
    .await;
    let kinesis = aws_sdk_kinesis::Client::new(&assume(&base(&server).await, None).await);
    while server.count("AssumeRole") < 3 {
        // On a machine that stalls, one may end between being chosen and being used.
        if let Err(error) = kinesis.list_streams().send().await {
            assert_eq!(error.code(), Some("ExpiredTokenException"));
        }
    }
}
