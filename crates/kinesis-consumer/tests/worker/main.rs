//! One promise of a worker at a time, over memory and on a paused clock: the times are the library's own waits and nothing else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/aggregate.rs"]
mod aggregate;
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/stream.rs"]
mod stream;
mod world;

mod busy;
mod kcl2;
mod leases;
mod processing;
mod reading;
