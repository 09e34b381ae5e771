//! The whole story on one machine in one command: embedded Kinesis and DynamoDB, the real scaler
//! and real consumers as processes, and an autoscaler that asks as KEDA does and decides as the HPA
//! does.
//!
//! `story` acts, `observer` looks, both write to `state`; `view` and `picture` show it.

pub mod args;
pub mod autoscaler;
mod consumer;
pub mod decisions;
pub mod ledger;
mod limited;
pub mod observer;
pub mod picture;
pub mod pods;
pub mod process;
pub mod producer;
mod scrape;
mod show;
pub mod stage;
pub mod state;
pub mod story;
pub mod times;
pub mod view;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::args::{Args, Part};

/// Does what the command line says. The exit code is 0 if every user that was sent is in the table,
/// 130 after Ctrl-C, else 1.
#[expect(clippy::print_stderr, reason = "the last word of a failed program")]
pub fn run() -> ExitCode {
    let args = Args::parse();
    let done = tokio::runtime::Runtime::new()
        .context("cannot start the async runtime")
        .and_then(|runtime| {
            runtime.block_on(async {
                match args.part {
                    Some(Part::Scaler) => stage::scaler_main().await.map(|()| ExitCode::SUCCESS),
                    Some(Part::Consumer) => consumer::main().await.map(|()| ExitCode::SUCCESS),
                    None => show::run(args).await,
                }
            })
        });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
