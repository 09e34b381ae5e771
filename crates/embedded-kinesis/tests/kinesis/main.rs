//! The server through the real, unmodified AWS SDK (and, for CBOR and nonsense, bare sockets).

#![allow(clippy::unwrap_used, reason = "a test")]

mod cbor;
mod cli;
mod consumers;
mod credentials;
mod faults;
mod http2;
mod iterators;
mod listing;
mod pages;
mod puts;
mod resharding;
mod second_opinion;
mod streams;
mod subscription_faults;
mod subscriptions;
mod support;
mod tailing;
