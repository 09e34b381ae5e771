//! What the tests of several crates share. Nothing here ships, and all of it panics where a test
//! would.
//!
//! - [`aws`]: SDK clients of embedded services. [`DynamoDb`] is one; the other is
//!   [`embedded_kinesis::EmbeddedKinesis`], which has STS too.
//! - [`Proxy`]: stands before an embedded service, breaks calls on demand, counts them and what
//!   they cost.
//! - [`Company`]: a network that reaches AWS's own host names by a [`ForwardProxy`] alone.
//! - [`Program`] and [`Process`]: a real binary, started, watched, signalled.
//! - [`campaign`]: a matrix of faults against real processes, with a transcript.
//! - [`Scripted`]: an AWS that answers each call as the test says.
//! - [`environment`]: what every program does with odd variables.
//! - [`ipv6`]: a host that has IPv6 alone.
//! - [`connections`]: those of a process. [`wait`]: waiting for events. [`walk`]: a stream read
//!   whole. [`skip`]: what a machine lacks.
//! - [`policy`], [`queries`] and [`promtool`]: what is written for clusters, held against what
//!   programs do.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

pub mod aws;
pub mod campaign;
mod company;
mod dynamodb;
pub mod environment;
mod forward_proxy;
pub mod http;
pub mod ipv6;
pub mod policy;
mod process;
pub mod promtool;
mod proxy;
pub mod queries;
mod scripted;
pub mod skip;
mod sockets;
pub mod wait;
pub mod walk;

pub use company::Company;
pub use dynamodb::{DynamoDb, Item, text};
pub use forward_proxy::{ForwardProxy, Host};
pub use process::{Process, Program, Signal, own_cpu_seconds};
pub use proxy::{Proxy, TableAsked, Tally};
pub use scripted::{Said, Scripted, shard_id, shards};
pub use sockets::connections;
pub use wait::{PATIENCE, eventually, until};
