//! A KEDA external scaler for AWS Kinesis.
//!
//! Imports go one way; ARCHITECTURE.md has the order, and tests/architecture checks it.

pub mod args;
pub mod config;
pub mod decision;
pub mod error;
pub mod metrics;
mod names;
pub mod report;
pub mod server;
pub mod source;
pub mod telemetry;
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
