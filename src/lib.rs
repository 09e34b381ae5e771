//! A KEDA external scaler for AWS Kinesis.
//!
//! Imports go one way; ARCHITECTURE.md has the order, and tests/architecture.rs checks it.

pub mod admin;
pub mod answer;
pub mod args;
pub mod aws;
mod check;
pub mod config;
pub mod error;
pub mod explain;
mod health;
pub mod journal;
pub mod look;
pub mod metrics;
pub mod policy;
pub mod probe;
mod replay;
pub mod right_size;
pub mod scaler;
pub mod server;
pub mod shards;
pub mod sight;
pub mod telemetry;
pub mod tls;
pub mod trigger;
pub mod watch;

/// What `build.rs` made of `proto/externalscaler.proto`: messages, server, client.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::use_self,
    clippy::future_not_send,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("externalscaler");

    /// The compiled file descriptors, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/externalscaler.bin"));
}
