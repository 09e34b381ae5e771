//! A reverse proxy (HTTP/1.1) before an embedded service, for real binaries to be pointed at.
//!
//! It breaks calls by operation as [`Faults`] say, on and off while the binary runs, also in the
//! middle of a subscription's events, and counts calls, bytes, items and DynamoDB's units. Its
//! answers to faults are JSON, as the Rust SDKs ask. It gives tables a status, and the service a
//! clock that refuses signatures as AWS does.

mod call;
mod relay;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use embedded_kinesis::Faults;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::relay::{Relay, Upstream};
use self::tally::Tallies;
pub use self::tally::Tally;

/// A running proxy. It stops when dropped: its connections end then.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// A table that was asked for, as the calls had it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TableAsked {
    /// The name or the ARN.
    pub table: String,
    /// The region that the calls were signed for.
    pub region: String,
    /// Who signed them.
    pub access_key: String,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Faults,
    tallies: Mutex<Tallies>,
    /// Access key, operation, table or stream.
    callers: Mutex<BTreeSet<(String, String, String)>>,
    tables: Mutex<BTreeSet<TableAsked>>,
    /// Of tables that cannot be used.
    statuses: Mutex<BTreeMap<String, &'static str>>,
    /// By how many seconds the service's clock is ahead. `None`: nobody looks at it.
    clock: Mutex<Option<i64>>,
    /// Changes with each call that comes in.
    changed: watch::Sender<()>,
}

impl Proxy {
    /// Before the service at `upstream`, such as `http://127.0.0.1:4566`.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let relay = Relay {
            shared: Arc::clone(&shared),
            upstream: Upstream::new(upstream),
            stopped: stop.clone(),
        };
        tokio::spawn(relay.serve(listener));
        Self {
            address,
            shared,
            _stop: stop.drop_guard(),
        }
    }

    /// `http://127.0.0.1:PORT`: what the binary is given as the service's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes wrong. [`Faults::inject_on`] takes the name of a table or a stream.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Gives the table this status, in which its items can neither be read nor written. `None`: the
    /// one that it has.
    pub fn set_status(&self, table: &str, status: Option<&'static str>) {
        let mut statuses = self.shared.statuses.lock().unwrap();
        match status {
            Some(status) => drop(statuses.insert(table.to_owned(), status)),
            None => drop(statuses.remove(table)),
        }
    }

    /// From now on the service's clock is ahead of this machine's by so many seconds, and refuses
    /// signatures that are five minutes off.
    pub fn set_clock(&self, ahead: i64) {
        *self.shared.clock.lock().unwrap() = Some(ahead);
    }

    /// What an operation came to so far, on all streams or tables.
    pub fn tally(&self, operation: &str) -> Tally {
        let tallies = self.shared.tallies.lock().unwrap();
        let tallies = tallies
            .iter()
            .filter(|((called, _), _)| called == operation);
        tallies.map(|(_, tally)| *tally).sum()
    }

    /// What each operation came to so far.
    pub fn tallies(&self) -> BTreeMap<String, Tally> {
        let mut sums = BTreeMap::<_, Tally>::new();
        for ((operation, _), tally) in &*self.shared.tallies.lock().unwrap() {
            *sums.entry(operation.clone()).or_default() += *tally;
        }
        sums
    }

    /// What each operation came to so far on a table or a stream.
    pub fn tallies_on(&self, name: &str) -> Vec<(String, Tally)> {
        let tallies = self.shared.tallies.lock().unwrap();
        let tallies = tallies.iter().filter(|((_, on), _)| on == name);
        let tallies = tallies.map(|((operation, _), tally)| (operation.clone(), *tally));
        tallies.collect()
    }

    /// Counts anew from here.
    pub fn clear_tallies(&self) {
        self.shared.tallies.lock().unwrap().clear();
    }

    /// Waits until an operation was called so often, answered or not.
    pub async fn wait_for_calls(&self, operation: &str, calls: u64) {
        let mut changed = self.shared.changed.subscribe();
        while self.tally(operation).calls < calls {
            changed.changed().await.unwrap();
        }
    }

    /// The operations that the owner of an access key has called, each with its table or stream.
    pub fn called_by(&self, access_key: &str) -> BTreeSet<(String, String)> {
        let callers = self.shared.callers.lock().unwrap();
        let calls = callers.iter().filter(|(key, ..)| key == access_key);
        calls
            .map(|(_, operation, on)| (operation.clone(), on.clone()))
            .collect()
    }

    /// The tables that were asked for, by whom and where.
    pub fn tables_asked(&self) -> BTreeSet<TableAsked> {
        self.shared.tables.lock().unwrap().clone()
    }
}
