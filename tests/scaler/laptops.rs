//! Profiles of people: signed in to by SSO, or by `aws login`.

use assert_cmd::cargo::cargo_bin;
use axum::{Router, http::StatusCode, routing::get};
use test_support::{Company, Host, Program};
use tokio::net::TcpListener;

const SSO: &str = "
[profile dev]
sso_session = corp
sso_account_id = 111122223333
sso_role_name = dev
[sso-session corp]
sso_region = us-east-1
sso_start_url = https://corp.awsapps.com/start
[profile of-dev]
source_profile = dev
role_arn = arn:aws:iam::111122223333:role/deploy
[profile console]
login_session = arn:aws:iam::111122223333:user/Ann
";

/// The files that the AWS CLI leaves when it has signed in.
const SSO_CACHE: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
const LOGIN_CACHE: &str =
    ".aws/login/cache/ba394efc3110027f10868eac800d551422b5e29ddf6e6d46c9cbb374ae3159be.json";

fn check(company: &Company, profile: &str) -> Program {
    let check = Program::new(cargo_bin("keda-kinesis-scaler"))
        .args(["check", "--set", "streamName=orders"])
        .args(["--set", "awsRegion=us-east-1"]);
    let program = company.program(check).without("AWS_ACCESS_KEY_ID");
    program
        .env("AWS_CONFIG_FILE", company.file("config", SSO))
        .env("AWS_PROFILE", profile)
}

/// Gives a role's credentials to whoever shows the token `signed-in`.
async fn company() -> Company {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route(
        "/federation/credentials",
        get(async |headers: axum::http::HeaderMap| {
            match headers["x-amz-sso_bearer_token"] == "signed-in" {
                true => (
                    StatusCode::OK,
                    [("x-amzn-errortype", "")],
                    r#"{"roleCredentials": {"accessKeyId": "ASIASSO", "secretAccessKey": "s",
                        "sessionToken": "t", "expiration": 4102444800000}}"#,
                ),
                false => (
                    StatusCode::UNAUTHORIZED,
                    [("x-amzn-errortype", "UnauthorizedException")],
                    r#"{"message": "Session token not found or invalid"}"#,
                ),
            }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, router).await });
    let portal = Host::At(address);
    Company::with(move |host| host.starts_with("portal.sso.").then_some(portal)).await
}

fn sso_token(company: &Company, token: &str) {
    let text = format!(r#"{{"accessToken": "{token}", "expiresAt": "2099-01-01T00:00:00Z"}}"#);
    company.file(SSO_CACHE, &text);
}

async fn fails(program: Program, wanted: &[&str]) {
    let (code, log) = program.run().await;
    assert_eq!(code, 1, "{log}");
    assert!(!log.contains("already taken"), "{log}");
    for wanted in wanted {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
}

#[tokio::test]
async fn sso() {
    let company = company().await;
    let sign_in = "sign in by `aws sso login --profile dev`";
    for profile in ["dev", "of-dev"] {
        fails(check(&company, profile), &[sign_in, "the cached SSO token"]).await;
    }
    sso_token(&company, "too-old");
    let said = "Session token not found or invalid";
    fails(check(&company, "dev"), &[sign_in, said]).await;
    sso_token(&company, "signed-in");
    for profile in ["dev", "of-dev"] {
        let (code, log) = check(&company, profile).run().await;
        assert_eq!(code, 0, "{log}");
    }
    let calls = company.kinesis.calls();
    let assumed = calls.iter().find(|call| call.operation == "AssumeRole");
    assert_eq!(assumed.unwrap().access_key_id, "ASIASSO");
}

#[tokio::test]
async fn aws_login() {
    let company = company().await;
    let sign_in = "sign in by `aws login --profile console`";
    fails(check(&company, "console"), &[sign_in, LOGIN_CACHE]).await;
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let token = serde_json::json!({
        "accessToken": {
            "accessKeyId": "ASIALOGIN", "secretAccessKey": "s", "sessionToken": "t",
            "accountId": "111122223333", "expiresAt": "2099-01-01T00:00:00Z",
        },
        "tokenType": "aws_sigv4", "refreshToken": "r", "clientId": "c", "dpopKey": key,
    });
    company.file(LOGIN_CACHE, &token.to_string());
    let (code, log) = check(&company, "console").run().await;
    assert_eq!(code, 0, "{log}");
    let calls = company.kinesis.calls();
    assert!(calls.iter().all(|call| call.access_key_id == "ASIALOGIN"));
}
