//! The daemon as a process, with real children: one binary for all of its tests, because each
//! binary links the AWS SDKs anew.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::future_not_send,
    reason = "a test fails by panicking, runs on a thread of its own, and has no user outside"
)]

mod clients;
mod conversations;
mod examples;
mod failures;
mod java;
mod start;
mod stopping;
mod story;
mod support;
