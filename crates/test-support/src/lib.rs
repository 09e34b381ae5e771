//! What the tests of several crates share. Nothing here ships, and all of it panics where a test
//! would.
//!
//! - [`aws`]: SDK clients of embedded services. [`DynamoDb`] is one; the other is
//!   [`embedded_kinesis::EmbeddedKinesis`], which has STS too.
//! - [`Proxy`]: stands before an embedded service, breaks calls on demand, counts them and what
//!   they cost.
//! - [`Program`] and [`Process`]: a real binary, started, watched, signalled.
//! - [`campaign`]: a matrix of faults against real processes, with a transcript.
//! - [`Scripted`]: an AWS that answers each call as the test says.
//! - [`environment`]: what every program does with odd variables.
//! - [`wait`]: waiting for events. [`walk`]: a stream read whole. [`skip`]: what a machine lacks.
//!   [`policy`] and [`queries`]: what is written for clusters, held against what programs do.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

pub mod aws;
pub mod campaign;
mod dynamodb;
pub mod environment;
pub mod http;
pub mod policy;
mod process;
mod proxy;
pub mod queries;
mod scripted;
pub mod skip;
pub mod wait;
pub mod walk;

pub use dynamodb::{DynamoDb, Item, text};
pub use process::{Process, Program, Signal, own_cpu_seconds};
pub use proxy::{Proxy, TableAsked, Tally};
pub use scripted::{Said, Scripted, shard_id, shards};
pub use wait::{PATIENCE, eventually, until};
