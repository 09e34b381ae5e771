use std::path::Path;

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, sts::AssumeRoleProvider};
use aws_sdk_dynamodb::operation::scan::ScanError;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use embedded_kinesis::{Config, EmbeddedKinesis, FOREVER, Fault};
use rstest::rstest;

use super::*;
use crate::{Kind, failure::causes_in_words};

const ROLE: &str = "arn:aws:iam::111122223333:role/pod";

/// A chain in an environment of these variables alone. STS and the pod's endpoint are embedded;
/// there is no instance.
async fn chain(sts: &EmbeddedKinesis, variables: &[(&str, &str)]) -> Chain {
    let disabled = [("AWS_EC2_METADATA_DISABLED", "true")];
    let variables = variables.iter().chain(&disabled);
    let variables = variables.map(|(name, value)| ((*name).into(), (*value).into()));
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(sts.endpoint())
        .retry_config(RetryConfig::disabled())
        .build();
    Chain {
        environment: Environment::of(variables.collect()).await,
        config,
        instance: imds::Client::builder()
            .endpoint("http://127.0.0.1:9")
            .unwrap()
            .max_attempts(1)
            .build(),
        attempt_timeout: None,
        sources: None,
    }
}

async fn sts() -> EmbeddedKinesis {
    EmbeddedKinesis::start(Config::default()).await.unwrap()
}

fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn key(sts: &EmbeddedKinesis, variables: &[(&str, &str)]) -> String {
    let found = chain(sts, variables).await.provide_credentials().await;
    found.unwrap().access_key_id().to_owned()
}

async fn why(sts: &EmbeddedKinesis, variables: &[(&str, &str)]) -> String {
    let chain = chain(sts, variables).await;
    let mut whys = Vec::new();
    // What is wrong stays the same, and so does what is said of it.
    for _ in 0..2 {
        let error = chain.provide_credentials().await.unwrap_err();
        whys.push(causes_in_words(&error));
    }
    assert_eq!(whys[0], whys[1]);
    whys.swap_remove(0)
}

#[tokio::test]
async fn the_first_that_has_some_wins() {
    let sts = sts().await;
    let directory = tempfile::tempdir().unwrap();
    let token = file(directory.path(), "token", "web\n");
    sts.identities().require_web_identity_token("web");
    let profile = file(
        directory.path(),
        "credentials",
        "[default]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n[other]\naws_access_key_id = \
         OTHER\naws_secret_access_key = s\n",
    );
    let irsa = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ROLE_ARN", ROLE),
    ];
    let file = ("AWS_SHARED_CREDENTIALS_FILE", &*profile);
    let keys = [
        ("AWS_ACCESS_KEY_ID", "KEYS"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    assert_eq!(
        key(&sts, &[&irsa[..], &[file], &keys].concat()).await,
        "KEYS"
    );
    assert_eq!(key(&sts, &[&irsa[..], &[file]].concat()).await, "PROFILE");
    assert_eq!(key(&sts, &[file, ("AWS_PROFILE", "other")]).await, "OTHER");
    let half = [
        ("AWS_ACCESS_KEY_ID", "KEYS"),
        ("AWS_SECRET_ACCESS_KEY", " "),
    ];
    assert_eq!(key(&sts, &[&half[..], &[file]].concat()).await, "PROFILE");
    assert!(key(&sts, &irsa).await.starts_with("ASIA"));
}

#[tokio::test]
async fn a_token_is_read_anew_each_time() {
    let sts = sts().await;
    let directory = tempfile::tempdir().unwrap();
    let token = file(directory.path(), "token", "first");
    let irsa = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ROLE_ARN", ROLE),
    ];
    let chain = chain(&sts, &irsa).await;
    for text in ["first", "second"] {
        sts.identities().require_web_identity_token(text);
        file(directory.path(), "token", text);
        let found = chain.provide_credentials().await.unwrap();
        assert!(found.expiry().is_some());
    }
}

#[tokio::test]
async fn a_profile_that_was_meant_to_give_some_is_the_cause() {
    let sts = sts().await;
    let directory = tempfile::tempdir().unwrap();
    for (text, wanted) in [
        ("[default]\nrole_arn = r\nsource_profile = gone\n", "gone"),
        (
            "[default]\ncredential_process = false\n",
            "the profile default gave none",
        ),
    ] {
        let config = file(directory.path(), "config", text);
        let told = why(&sts, &[("AWS_CONFIG_FILE", &config)]).await;
        assert!(told.contains(wanted), "{told}");
        assert!(!told.contains("already taken"), "{told}");
    }
    let config = file(
        directory.path(),
        "config",
        "[default]\nregion = eu-west-1\n",
    );
    let told = why(&sts, &[("AWS_CONFIG_FILE", &config)]).await;
    assert!(
        told.contains("no credentials found in the environment"),
        "{told}"
    );
}

#[tokio::test]
async fn half_of_a_pair_is_named() {
    let sts = sts().await;
    let one = why(&sts, &[("AWS_ACCESS_KEY_ID", "KEYS")]).await;
    assert!(
        one.contains("(AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not)"),
        "{one}"
    );
    let blank = [
        ("AWS_ROLE_ARN", ""),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/dev/null"),
    ];
    let blank = why(&sts, &blank).await;
    assert!(
        blank.contains("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"),
        "{blank}"
    );
}

#[tokio::test]
async fn sts_that_refuses_ends_the_search() {
    let sts = sts().await;
    sts.identities().deny_role(ROLE);
    let directory = tempfile::tempdir().unwrap();
    let token = file(directory.path(), "token", "web");
    let irsa = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ROLE_ARN", ROLE),
    ];
    let chain = chain(&sts, &irsa).await;
    let error = chain.provide_credentials().await.unwrap_err();
    assert!(
        causes_in_words(&error).contains("AccessDenied"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_part_of_the_chain_asks_nobody_else() {
    let sts = sts().await;
    let variables = [
        ("AWS_ACCESS_KEY_ID", "mine"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ];
    let of = async |sources| {
        let mut chain = chain(&sts, &variables).await;
        chain.sources = Some(sources);
        chain.provide_credentials().await
    };
    let found = of(vec![
        CredentialsSource::Container,
        CredentialsSource::Environment,
    ])
    .await;
    assert_eq!(found.unwrap().access_key_id(), "mine");
    let error = of(vec![CredentialsSource::WebIdentity]).await.unwrap_err();
    let text = causes_in_words(&error);
    assert!(
        text.contains("only these were asked: the web identity token"),
        "{text}"
    );
}

/// The failure of a call that such credentials were for.
fn failure(error: CredentialsError) -> Failure {
    let error = ConnectorError::other(error.into(), None);
    let error: SdkError<ScanError, _> = SdkError::dispatch_failure(error);
    Failure::from_sdk((Service::DynamoDb, "Scan"), error)
}

#[rstest]
#[case(
    Fault::Status(503),
    "Http503",
    "STS answered 503 without an error code"
)]
#[case(
    Fault::Garbage,
    "UnreadableAnswer",
    "STS answered with what is no answer to "
)]
#[case(
    Fault::EmptyJson,
    "UnreadableAnswer",
    "STS answered with what is no answer to "
)]
#[case(
    Fault::HalfBody,
    "UnreadableAnswer",
    "STS answered with what is no answer to "
)]
#[case(Fault::Reset, "ConnectionFailed", "")]
#[tokio::test]
async fn trouble_of_sts_is_no_matter_of_the_identity(
    #[case] fault: Fault,
    #[case] code: &str,
    #[case] text: &str,
) {
    let sts = sts().await;
    sts.faults().inject("*", fault, FOREVER);
    sts.identities().require_web_identity_token("web");
    let directory = tempfile::tempdir().unwrap();
    let token = file(directory.path(), "token", "web");
    let irsa = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ROLE_ARN", ROLE),
    ];
    let web = chain(&sts, &irsa).await;
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(sts.endpoint())
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new("KEYS", "secret", None, None, "a test"));
    let provider = AssumeRoleProvider::builder(ROLE).configure(&config.load().await);
    let role = InTime {
        provider: provider.build().await,
        who: "the STS".to_owned(),
        attempt_timeout: None,
    };
    for (loaded, operation) in [
        (web.provide_credentials().await, "AssumeRoleWithWebIdentity"),
        (role.provide_credentials().await, "AssumeRole"),
    ] {
        let failure = failure(loaded.unwrap_err());
        let said = (failure.service, failure.operation, failure.kind);
        assert_eq!(said, (Service::Sts, operation, Kind::Unavailable));
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(text), "{failure}");
    }
}

#[tokio::test]
async fn a_role_without_credentials_is_an_answer_without_sense() {
    for error in [
        senseless("AssumeRoleWithWebIdentity"),
        senseless_role(CredentialsError::unhandled("none")),
    ] {
        let failure = failure(error);
        assert_eq!(
            (failure.service, failure.kind),
            (Service::Sts, Kind::Senseless)
        );
    }
}

#[test]
fn trouble_of_other_sources_is_no_matter_of_the_identity() {
    let text = "Non-success status from HTTP credential provider: StatusCode(503)";
    for (error, wanted) in [
        (
            CredentialsError::provider_error(text),
            "the pod's endpoint answered 503",
        ),
        (
            CredentialsError::unhandled("no JSON"),
            "the pod's endpoint answered with something that is not credentials: no JSON",
        ),
    ] {
        let failure = failure(trouble::named("the pod's endpoint", error));
        assert_eq!(
            (failure.kind, failure.code.as_str()),
            (Kind::Unavailable, "CredentialsUnavailable")
        );
        assert_eq!(failure.message, wanted);
    }
}
