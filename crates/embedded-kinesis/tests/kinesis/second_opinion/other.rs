//! npm's `kinesis-local`: installing and starting it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::{ACCOUNT, REGION};

const PACKAGE: &str = "kinesis-local@0.6.2";

/// Where the package is, installed if it is not yet.
pub(crate) async fn install() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("second-opinion");
    let package = directory.join("node_modules/kinesis-local");
    let run = |program: &'static str, args: Vec<String>| async move {
        let command = tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(120), command)
            .await
            .map_err(|_| format!("{program} takes too long"))?;
        let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{program} failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    };
    run("node", vec!["--version".into()]).await?;
    if !package.join("main.js").exists() {
        let prefix = directory.to_string_lossy().into_owned();
        run(
            "npm",
            [
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                &prefix,
                PACKAGE,
            ]
            .map(str::to_owned)
            .into(),
        )
        .await?;
    }
    Ok(package)
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts the other one; the process ends with the value.
pub(crate) async fn start(package: &Path) -> Result<(tokio::process::Child, String), String> {
    let (plain, tls) = (free_port().await, free_port().await);
    let mut command = tokio::process::Command::new("node");
    // It reads its certificate from where it stands.
    command
        .arg("main.js")
        .current_dir(package)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .env("KINESIS_MOCK_PLAIN_PORT", plain.to_string())
        .env("KINESIS_MOCK_TLS_PORT", tls.to_string());
    command
        .env("AWS_ACCOUNT_ID", ACCOUNT)
        .env("AWS_REGION", REGION);
    for duration in [
        "CREATE_STREAM",
        "DELETE_STREAM",
        "MERGE_SHARDS",
        "SPLIT_SHARD",
        "UPDATE_SHARD_COUNT",
        "REGISTER_STREAM_CONSUMER",
        "DEREGISTER_STREAM_CONSUMER",
    ] {
        command.env(format!("{duration}_DURATION"), "5ms");
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let up = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", plain))
            .await
            .is_err()
        {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("kinesis-local ended with {status}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), up)
        .await
        .map_err(|_| "kinesis-local does not listen".to_owned())??;
    Ok((child, format!("http://127.0.0.1:{plain}")))
}
