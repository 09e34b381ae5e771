#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! ```text
//! args        the command line, the Java daemon's and a JVM's own
//! properties  the file: format → keys → what the daemon does, and a report for people     pure
//! wire        messages out and in, lines of bounded length                                pure
//! child       one process: found, started, asked, ended
//! processor   the library's record processor over a child
//! process     the daemon: clients, worker, signals, exit code; log, metrics, admin port
//! ```

pub mod args;
pub mod child;
pub mod log;
pub mod metrics;
pub mod process;
pub mod processor;
pub mod properties;
pub mod wire;
