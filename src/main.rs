//! The binary: everything is in the library, where tests reach it.

use anyhow::anyhow;
use rustls::crypto::aws_lc_rs;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    keda_kinesis_scaler::args::run().await
}
