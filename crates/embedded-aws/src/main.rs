//! Kinesis, DynamoDB and STS at one address, in memory: for laptops, tests and clusters. Nothing is
//! kept, and signatures are not checked.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use embedded_aws::EmbeddedAws;
use tokio::net::TcpListener;

/// Kinesis, DynamoDB and STS at one address, in memory. Nothing is kept, and signatures are not
/// checked.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen; port 0: any
    #[arg(
        long,
        env = "EMBEDDED_AWS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:4566"
    )]
    listen: SocketAddr,

    /// The region that the printed variables name; each region has streams of its own
    #[arg(
        long,
        env = "EMBEDDED_AWS_REGION",
        value_name = "REGION",
        default_value = "eu-west-1"
    )]
    region: String,
}

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the variables are what it is asked for"
)]
async fn main() -> anyhow::Result<()> {
    let Args { listen, region } = Args::parse();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (flag --listen)"))?;
    let aws = EmbeddedAws::serve(listener, &region).await?;
    println!("{}", aws.variables());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
