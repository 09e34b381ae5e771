//! Right-sizing beside other policies, simulated: deterministic, every chance seeded.
//!
//! `cargo run --release -p lag-simulation` runs all of it and writes the tables and pictures of
//! docs/lag.md. The pods, their leases and records are [`cluster`], what arrives is [`workload`],
//! what is told to KEDA is [`policy`], and KEDA and the HPA are the crate `keda-rules`.

pub mod bad_day;
pub mod cluster;
pub mod generator;
pub mod parallel;
pub mod picture;
pub mod policy;
pub mod report;
pub mod run;
pub mod tables;
pub mod workload;
