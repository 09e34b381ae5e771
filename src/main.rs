//! The binary: everything is in the library, where tests reach it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::anyhow;
use mimalloc::MiMalloc;
use rustls::crypto::aws_lc_rs;

/// A probe makes hundreds of allocations, most of them in the SDK; with glibc's it took half as
/// much CPU again: `cargo bench --bench scaler -- applications`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            // A line for the user; a returned error would bring a backtrace wherever RUST_BACKTRACE
            // is set.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<ExitCode> {
    aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    keda_kinesis_scaler::args::run().await
}
