//! The AWS CLI, where there is one.

use crate::support::*;
use embedded_kinesis::EmbeddedKinesis;

/// What the CLI prints; its error where it fails.
async fn aws(server: &EmbeddedKinesis, arguments: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new("aws");
    command
        .args(arguments.split(' '))
        .args(["--output", "text"])
        .kill_on_drop(true);
    command
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env("AWS_DEFAULT_REGION", REGION);
    command
        .env("AWS_ACCESS_KEY_ID", "AKIDCLI")
        .env("AWS_SECRET_ACCESS_KEY", "any");
    command
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
    command
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env("AWS_PAGER", "");
    let output = command.output().await.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[tokio::test]
async fn the_aws_cli() {
    let (server, client) = server().await;
    if let Err(why) = aws(&server, "--version").await {
        return test_support::skip::skip("the_aws_cli", &format!("no AWS CLI: {why}"), false);
    }
    create(&client, "s", 2).await;
    aws(&server, "kinesis wait stream-exists --stream-name s")
        .await
        .unwrap();
    let resize = "kinesis update-shard-count --stream-name s --target-shard-count 3 --scaling-type UNIFORM_SCALING";
    aws(&server, resize).await.unwrap();
    let count = "kinesis describe-stream-summary --stream-name s --query StreamDescriptionSummary.OpenShardCount";
    assert_eq!(aws(&server, count).await.unwrap(), "3");
    let refused = aws(&server, "kinesis describe-stream-summary --stream-name t")
        .await
        .unwrap_err();
    assert!(refused.contains("(ResourceNotFoundException)"), "{refused}");
    let who = aws(&server, "sts get-caller-identity --query Account")
        .await
        .unwrap();
    assert_eq!(who, ACCOUNT);
}
