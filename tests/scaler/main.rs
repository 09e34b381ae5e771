//! The scaler, asked from outside: one binary for all of its tests, because each binary links the
//! AWS SDKs anew. Tests share this process: what needs an environment of its own starts the real
//! scaler as a process.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::future_not_send,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking, runs on a thread of its own, has no user outside, and says why it is skipped or what it came to"
)]

mod admin;
mod all_streams;
mod answers;
mod application;
mod bad_days;
mod bounds;
mod charts;
mod check;
mod check_files;
mod cli;
mod commands;
mod config;
mod costs;
mod creating;
mod credentials;
mod descriptors;
mod documents;
mod elsewhere;
mod environment;
mod examples;
mod explain;
mod explain_browser;
mod faults;
mod hostile;
mod iam;
mod keda_cases;
mod kind;
mod laptops;
mod large_records;
mod lease_tables;
mod log_lines;
mod metadata;
mod network;
mod operations;
mod pages;
mod policy;
mod reflection;
mod reload;
mod replicas;
mod rpcs;
mod sharing;
mod shutdown;
mod soak;
mod streams;
mod supply_chain;
mod support;
mod tls;
mod tls_bounds;
mod trigger_docs;
mod workers;
