//! The library, used from outside: one binary for all of its tests, because each binary links the
//! AWS SDKs anew.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod aggregate;
mod connections;
mod costs;
mod face;
mod fan_out_sdk;
mod fleet;
mod kinesis_sdk;
mod lease_table;
mod processes;
mod sample;
mod several;
mod simulation;
mod stream;
mod worker;
