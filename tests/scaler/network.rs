//! The way to AWS: proxies, authorities, hosts, silence. The real binary in a network that reaches
//! AWS by a proxy alone.

use crate::support::{self, Process, Signal, wait_for_code, wait_for_value};
use assert_cmd::cargo::cargo_bin;
use rstest::rstest;
use test_support::{Company, Host, Program, ipv6};
use tokio::net::TcpListener;
use tonic::Code;

/// Asks STS, Kinesis and DynamoDB.
fn check(region: &str, more: &[&str]) -> Program {
    check_in(&["--set", &format!("awsRegion={region}")]).args(more)
}

fn check_in(more: &[&str]) -> Program {
    Program::new(cargo_bin("keda-kinesis-scaler"))
        .args(["check", "--set", "streamName=orders"])
        .args(["--set", "scaleOn=readableShards"])
        .args(["--set", "applicationName=billing"])
        .args(more)
}

const ALL: [&str; 3] = [
    "dynamodb.us-east-1.amazonaws.com",
    "kinesis.us-east-1.amazonaws.com",
    "sts.us-east-1.amazonaws.com",
];

const ROLE: &str = "arn:aws:iam::111122223333:role/scaler";

#[tokio::test]
async fn check_asks_by_the_proxy() {
    let company = Company::start().await;
    let (code, log) = company.program(check("us-east-1", &[])).run().await;
    assert_eq!(code, 0, "{log}");
    company.asked(&ALL, &log);
}

#[tokio::test]
async fn serve_asks_by_the_proxy_and_says_so() {
    let company = Company::start().await;
    let env = company.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, &**value)).collect();
    let process = Process::start("aws: {refresh: 50ms}", &env).await;
    let object = support::object(support::metadata(&[("streamName", "orders")]));
    wait_for_value(&mut process.client().await, &object, 2.0).await;
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    let log = log.join("\n");
    company.asked(&["kinesis.us-east-1.amazonaws.com"], &log);
    for wanted in [
        "HTTPS_PROXY",
        "by way of a proxy",
        "by an endpoint's name alone",
    ] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
}

#[rstest]
#[case("", true)]
#[case("127.0.0.1", false)]
#[case("localhost, 127.0.0.0/8", false)]
#[case("*", false)]
#[tokio::test]
async fn exempt_hosts_are_asked_straight(#[case] exempt: &str, #[case] by_proxy: bool) {
    let company = Company::start().await;
    let kinesis = company.kinesis.endpoint();
    let program = company
        .program(check("us-east-1", &[]))
        .without("HTTPS_PROXY")
        .env("HTTP_PROXY", company.proxy.url())
        .env("NO_PROXY", exempt)
        .env("AWS_ENDPOINT_URL", &kinesis)
        .env("AWS_ENDPOINT_URL_DYNAMODB", company.dynamodb.endpoint());
    let (code, log) = program.run().await;
    assert_eq!(code, 0, "{log}");
    let asked = if by_proxy { &["127.0.0.1"][..] } else { &[] };
    company.asked(asked, &log);
}

#[tokio::test]
async fn a_pods_and_an_instances_credentials_are_never_asked_by_the_proxy() {
    let company = Company::start().await;
    let identities = company.kinesis.identities();
    identities.serve_container_credentials("pod-token", ROLE);
    let token = company.file("token", "pod-token");
    let program = company
        .program(check("us-east-1", &[]))
        .without("AWS_ACCESS_KEY_ID")
        .env("HTTP_PROXY", company.proxy.url());
    let pod = program
        .clone()
        .env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            company.kinesis.container_credentials_uri(),
        )
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
    let (code, log) = pod.run().await;
    assert_eq!(code, 0, "{log}");
    // Who knows his account asks by it.
    let hosts = [
        "111122223333.control-kinesis.us-east-1.amazonaws.com",
        "111122223333.ddb.us-east-1.amazonaws.com",
        "sts.us-east-1.amazonaws.com",
    ];
    company.asked(&hosts, &log);

    let instance = program
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance().await);
    let (code, log) = instance.run().await;
    assert_eq!(code, 0, "{log}");
    let proxied = company.proxy.hosts();
    assert!(!proxied.contains("127.0.0.1"), "{proxied:?}");
    let calls = company.kinesis.calls();
    assert_eq!(calls.last().unwrap().access_key_id, "ASIAINSTANCE");
}

/// An instance's metadata service.
async fn instance() -> String {
    use axum::{Router, http::Uri, routing::get};
    const KEYS: &str = r#"{"Code": "Success", "AccessKeyId": "ASIAINSTANCE", "SecretAccessKey": "s",
        "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}"#;
    let token = || async { ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "token") };
    let said = |uri: Uri| async move {
        match uri.path().ends_with('/') {
            true => "role",
            false => KEYS,
        }
    };
    let router = Router::new().route("/{*path}", get(said).put(token));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

#[tokio::test]
async fn authorities_are_found_by_check() {
    let company = Company::start().await;
    let works = "✓ kinesis:ListShards";
    company.authorities(check("us-east-1", &[]), works).await;
}

#[tokio::test]
async fn the_default_region_stands_in_for_check() {
    let company = Company::start().await;
    let works = "✓ kinesis:ListShards";
    company.default_region(check_in(&[]), works).await;
}

#[tokio::test]
async fn serve_tells_an_untrusted_certificate_as_that() {
    let company = Company::start().await;
    let env = company.env();
    let env = env.iter().filter(|(name, _)| *name != "AWS_CA_BUNDLE");
    let env: Vec<_> = env.map(|(name, value)| (*name, &**value)).collect();
    let process = Process::start("aws: {refresh: 50ms, maxStale: 100ms}", &env).await;
    let object = support::object(support::metadata(&[("streamName", "orders")]));
    let mut client = process.client().await;
    let status = wait_for_code(&mut client, &object, Code::Unavailable).await;
    for wanted in [
        "certificate of kinesis.us-east-1.amazonaws.com",
        "AWS_CA_BUNDLE",
    ] {
        assert!(status.message().contains(wanted), "{status}");
    }
}

#[tokio::test]
async fn authorities_are_read_at_the_start_when_files_can_be_read() {
    let company = Company::start().await;
    let of_the_system = tempfile::NamedTempFile::new().unwrap();
    let mut env = company.env();
    let (name, path) = env.iter_mut().find(|it| it.0 == "AWS_CA_BUNDLE").unwrap();
    std::fs::copy(&path, of_the_system.path()).unwrap();
    (*name, *path) = ("SSL_CERT_FILE", of_the_system.path().display().to_string());
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, &**value)).collect();
    let process = Process::start("aws: {refresh: 50ms}", &env).await;
    of_the_system.close().unwrap();
    let object = support::object(support::metadata(&[("streamName", "orders")]));
    wait_for_value(&mut process.client().await, &object, 2.0).await;
}

const FIPS: (&str, &str) = ("AWS_USE_FIPS_ENDPOINT", "true");
const ACCOUNT: (&str, &str) = ("AWS_ACCOUNT_ID", "111122223333");
const DUAL_STACK: (&str, &str) = ("AWS_USE_DUALSTACK_ENDPOINT", "true");

#[rstest]
#[case("us-east-1", &[FIPS], ["dynamodb-fips.us-east-1.amazonaws.com", "kinesis-fips.us-east-1.amazonaws.com", "sts-fips.us-east-1.amazonaws.com"])]
#[case("us-east-1", &[DUAL_STACK], ["dynamodb.us-east-1.api.aws", "kinesis.us-east-1.api.aws", "sts.us-east-1.api.aws"])]
#[case("us-east-1", &[FIPS, DUAL_STACK], ["dynamodb-fips.us-east-1.api.aws", "kinesis-fips.us-east-1.api.aws", "sts-fips.us-east-1.api.aws"])]
#[case("us-east-1", &[ACCOUNT], ["111122223333.control-kinesis.us-east-1.amazonaws.com", "111122223333.ddb.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"])]
#[case("us-east-1", &[ACCOUNT, ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")], ALL)]
#[case("cn-north-1", &[], ["dynamodb.cn-north-1.amazonaws.com.cn", "kinesis.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn"])]
#[case("us-gov-west-1", &[], ["dynamodb.us-gov-west-1.amazonaws.com", "kinesis.us-gov-west-1.amazonaws.com", "sts.us-gov-west-1.amazonaws.com"])]
#[case("us-iso-east-1", &[], ["dynamodb.us-iso-east-1.c2s.ic.gov", "kinesis.us-iso-east-1.c2s.ic.gov", "sts.us-iso-east-1.c2s.ic.gov"])]
#[case("us-isob-east-1", &[], ["dynamodb.us-isob-east-1.sc2s.sgov.gov", "kinesis.us-isob-east-1.sc2s.sgov.gov", "sts.us-isob-east-1.sc2s.sgov.gov"])]
#[case("eusc-de-east-1", &[], ["dynamodb.eusc-de-east-1.amazonaws.eu", "kinesis.eusc-de-east-1.amazonaws.eu", "sts.eusc-de-east-1.amazonaws.eu"])]
#[tokio::test]
async fn which_hosts_are_asked(
    #[case] region: &str,
    #[case] env: &[(&str, &str)],
    #[case] hosts: [&str; 3],
) {
    let company = Company::start().await;
    let program = company
        .program(check(region, &[]))
        .env("AWS_REGION", region);
    let program = env
        .iter()
        .fold(program, |it, (name, value)| it.env(name, value));
    let (_, log) = program.run().await;
    company.asked(&hosts, &log);
}

/// STS for credentials, too: of a service account, and of a profile.
#[tokio::test]
async fn credentials_follow_the_same_rules() {
    let token = "web-identity-token";
    let profile = format!(
        "[default]\nrole_arn = {ROLE}\nsource_profile = keys\n[profile keys]\naws_access_key_id = AKID\n\
         aws_secret_access_key = very-secret\n"
    );
    for irsa in [true, false] {
        let company = Company::start().await;
        company
            .kinesis
            .identities()
            .require_web_identity_token(token);
        let program = company
            .program(check("us-east-1", &[]))
            .without("AWS_ACCESS_KEY_ID")
            .env(FIPS.0, FIPS.1);
        let program = match irsa {
            true => program
                .env("AWS_ROLE_ARN", ROLE)
                .env("AWS_WEB_IDENTITY_TOKEN_FILE", company.file("token", token)),
            false => program.env("AWS_CONFIG_FILE", company.file("config", &profile)),
        };
        let (code, log) = program.run().await;
        let hosts = company.proxy.hosts();
        let sts: Vec<_> = hosts.iter().filter(|it| it.starts_with("sts")).collect();
        assert_eq!(sts, ["sts-fips.us-east-1.amazonaws.com"], "{log}");
        let assumed = company.kinesis.count(match irsa {
            true => "AssumeRoleWithWebIdentity",
            false => "AssumeRole",
        });
        assert!(assumed > 0, "{code}: {log}");
    }
}

fn roles(company: &Company, more: &str) -> String {
    let config = format!("{{policy: [{{namespaces: ['*'], roles: ['*']}}]{more}}}");
    company.file("scaler.yaml", &config)
}

#[tokio::test]
async fn a_role_is_assumed_by_the_pods_own_sts() {
    let company = Company::start().await;
    let role = format!("awsRoleArn={ROLE}");
    let config = roles(&company, "");
    let check = check("us-east-1", &["--set", &role, "--config", &config]);
    let program = company.program(check).env("AWS_REGION", "eu-west-1");
    let (_, log) = program.run().await;
    let hosts = company.proxy.hosts();
    let sts: Vec<_> = hosts.iter().filter(|it| it.starts_with("sts")).collect();
    assert_eq!(sts, ["sts.eu-west-1.amazonaws.com"], "{log}");
    let kinesis = "kinesis.us-east-1.amazonaws.com";
    assert!(hosts.iter().any(|it| it.ends_with(kinesis)), "{log}");
}

#[tokio::test]
async fn a_host_that_is_not_found_is_named() {
    let company = Company::start().await;
    let program = company.program(check("us-east-1", &[]));
    let program = program.env("AWS_ENDPOINT_URL_KINESIS", "http://kinesis.invalid");
    let (code, log) = program.run().await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("kinesis.invalid"), "{log}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_by_its_variable() {
    let refused = |host: &str| host.starts_with("kinesis").then_some(Host::Refused);
    let company = Company::with(refused).await;
    let (code, log) = company.program(check("us-east-1", &[])).run().await;
    assert_eq!(code, 1, "{log}");
    let wanted = "kinesis.us-east-1.amazonaws.com (HTTPS_PROXY is set): ";
    assert!(log.contains(wanted), "{log}");
}

#[tokio::test]
async fn whoever_keeps_silent_is_named() {
    // It accepts nothing: connections stand in its queue.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    let sts = Host::At(silent.0);
    let company = Company::with(move |host| host.starts_with("sts").then_some(sts)).await;
    let role = format!("awsRoleArn={ROLE}");
    let config = roles(&company, ", aws: {timeout: 500ms}");
    let args = ["--config", config.as_str(), "--set", role.as_str()];
    let irsa = company
        .program(check("us-east-1", &args[..2]))
        .without("AWS_ACCESS_KEY_ID")
        .env("AWS_ROLE_ARN", ROLE)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", company.file("token", "t"));
    let assumed = company.program(check("us-east-1", &args));
    for program in [irsa, assumed] {
        let (code, log) = program.run().await;
        assert_eq!(code, 1, "{log}");
        assert!(
            log.contains("the STS of us-east-1 gave no answer in 0."),
            "{log}"
        );
    }

    let endpoint = format!("http://{}", silent.0);
    let pod = company
        .program(check("us-east-1", &args[..2]))
        .without("AWS_ACCESS_KEY_ID")
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let (code, log) = pod.run().await;
    assert_eq!(code, 1, "{log}");
    for wanted in ["(IMDS) did not answer", "its hop limit is at least 2"] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
}

#[tokio::test]
async fn it_is_reached_where_there_is_ipv6_alone() {
    let serve = Program::new(cargo_bin("keda-kinesis-scaler")).args(["serve"]);
    let serve = serve.env("ALSO", "health --address [::1]:6000");
    ipv6::alone("it_is_reached", serve, "9090", "/readyz").await;
}
