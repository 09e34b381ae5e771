//! Kinesis, DynamoDB and STS at one address, in memory: for laptops, tests and clusters. Nothing is
//! kept, and signatures are not checked.

use std::{net::SocketAddr, str::FromStr};

use anyhow::Context as _;
use clap::Parser;
use embedded_aws::{Config, EmbeddedAws};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

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

    /// A stream that is there from the start, and how many shards it has; may be repeated
    #[arg(long = "stream", env = "EMBEDDED_AWS_STREAMS", value_name = "NAME=SHARDS",
        value_delimiter = ',', value_parser = pair::<u32>)]
    streams: Vec<(String, u32)>,

    /// A table that is there from the start, and its key, a text; may be repeated
    #[arg(long = "table", env = "EMBEDDED_AWS_TABLES", value_name = "NAME=KEY",
        value_delimiter = ',', value_parser = pair::<String>)]
    tables: Vec<(String, String)>,
}

fn pair<T: FromStr>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match value.parse() {
        Ok(value) if !name.is_empty() && text.len() > name.len() + 1 => {
            Ok((name.to_owned(), value))
        }
        _ => Err("want such as orders=2 (a stream), users=email (a table)".to_owned()),
    }
}

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the variables are what it is asked for"
)]
async fn main() -> anyhow::Result<()> {
    let Args {
        listen,
        region,
        streams,
        tables,
    } = Args::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (flag --listen)"))?;
    let config = Config {
        region,
        streams: streams.into_iter().collect(),
        tables: tables.into_iter().collect(),
    };
    let aws = EmbeddedAws::serve(listener, config).await?;
    println!("{}", aws.variables());
    tokio::select! {
        _ = terminate.recv() => {}
        interrupt = tokio::signal::ctrl_c() => interrupt?,
    }
    Ok(())
}
