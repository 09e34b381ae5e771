//! The consumer, as processes of their own: one binary for all of its tests, because each binary
//! links the AWS SDKs anew.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::future_not_send,
    clippy::print_stdout,
    reason = "a test fails by panicking, runs on a thread of its own, has no user outside, and prints its seed"
)]

mod campaign;
mod cases;
mod clocks;
mod crash;
mod environment;
mod fan_out;
mod fleet;
mod iam;
mod items;
mod memory;
mod mending;
mod operation;
mod owners;
mod rejects;
mod rules;
mod start;
mod streams;
mod support;
