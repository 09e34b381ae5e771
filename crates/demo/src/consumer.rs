//! A consumer pod: `kinesis-to-dynamodb` with the tutorial's environment, its times shortened.

use anyhow::{Context as _, Result};
use clap::Parser as _;
use kinesis_consumer::Config;
use kinesis_to_dynamodb::Settings;
use tokio::net::TcpListener;

use crate::{
    limited, process,
    stage::{APPLICATION, STREAM, Stage, TABLE, aws_environment},
    times::Times,
};

/// What the Deployment of the tutorial sets, and where the embedded services are.
pub(crate) fn environment(stage: &Stage, times: &Times) -> Vec<(&'static str, String)> {
    let mut environment = aws_environment();
    environment.extend([
        ("STREAM_NAME", STREAM.to_owned()),
        ("TABLE_NAME", TABLE.to_owned()),
        ("APPLICATION_NAME", APPLICATION.to_owned()),
        ("AWS_ENDPOINT_URL_KINESIS", stage.kinesis_endpoint.clone()),
        ("AWS_ENDPOINT_URL_DYNAMODB", stage.dynamodb_endpoint.clone()),
        ("FAILOVER_TIME", format!("{}ms", times.failover.as_millis())),
    ]);
    environment
}

/// What a pod can do, in records a second; unset: all that the machine can.
pub(crate) const LIMIT: &str = "DEMO_RECORDS_PER_SECOND";

/// In the pod's process: says on standard output where its admin port is, and consumes until told
/// to stop.
#[expect(clippy::print_stdout, reason = "its admin address, for the demo")]
pub(crate) async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let stop = process::told_to_stop()?;
    let mut settings = Settings::parse_from(["consumer"]);
    // A free port. Should somebody else take it in between, this pod ends, and is replaced.
    settings.admin = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    println!("{}", settings.admin);
    let limit = std::env::var(LIMIT).ok().map(|limit| limit.parse());
    let Some(limit) = limit.transpose().context(LIMIT)? else {
        return Ok(kinesis_to_dynamodb::run(settings, stop).await?);
    };
    let adapt = |config: &mut Config, processors| {
        limited::adapt(config);
        limited::limit(limit, processors)
    };
    Ok(kinesis_to_dynamodb::run_adapted(settings, adapt, stop).await?)
}
