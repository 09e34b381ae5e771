//! A Kinesis that runs in-process behind the real wire protocol, for tests and demos.
//!
//! [`EmbeddedKinesis::start`] listens on a loopback port; the unmodified AWS SDKs and the AWS CLI
//! use it through their endpoint setting. Kinesis, STS and the credentials endpoint of EKS Pod
//! Identity are on the same port. Faults can be set, calls are recorded, and the server's clock can
//! be moved.
//!
//! One lock guards one stream, and nothing runs in the background: what has become due is done by
//! the next call that looks. A subscription looks whenever something happens to its shard.

mod calls;
mod clock;
mod config;
mod consumers;
mod control;
mod data;
mod event_stream;
mod exchange;
mod faults;
mod hash;
mod http;
mod identities;
mod limits;
mod operations;
mod protocol;
mod reshard;
mod sequence;
mod shard;
mod stream;
mod sts;
mod subscription;
mod token;
mod validate;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

pub use crate::calls::Call;
pub use crate::config::{Certificate, Config};
pub use crate::faults::{FOREVER, Fault, Faults, Trouble};
pub use crate::http::line;
pub use crate::identities::Identities;
use crate::world::World;

/// A running server. It stops when this is dropped; [`shutdown`](Self::shutdown) also waits for it.
#[derive(Debug)]
pub struct EmbeddedKinesis {
    world: Arc<World>,
    tasks: TaskTracker,
    address: SocketAddr,
    scheme: &'static str,
}

impl EmbeddedKinesis {
    /// Starts a server on 127.0.0.1 and a free port.
    ///
    /// # Errors
    /// No port could be opened, or the certificate is none.
    pub async fn start(config: Config) -> io::Result<Self> {
        Self::serve(TcpListener::bind("127.0.0.1:0").await?, config).await
    }

    /// Starts a server on a port that is open already.
    ///
    /// # Errors
    /// The listener has no local address, or the certificate is none.
    pub async fn serve(listener: TcpListener, config: Config) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let tls = config
            .certificate
            .as_ref()
            .map(http::acceptor)
            .transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let world = Arc::new(World::new(config));
        let tasks = TaskTracker::new();
        let accept = http::accept(listener, tls, Arc::clone(&world), tasks.clone());
        tasks.spawn(accept);
        tasks.close();
        Ok(Self {
            world,
            tasks,
            address,
            scheme,
        })
    }

    /// `http://127.0.0.1:PORT`, for Kinesis and STS alike; `https://` with a certificate, which has
    /// to be this address's.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// What `AWS_CONTAINER_CREDENTIALS_FULL_URI` should say; see
    /// [`Identities::serve_container_credentials`].
    pub fn container_credentials_uri(&self) -> String {
        format!("{}{}", self.endpoint(), exchange::CONTAINER_CREDENTIALS)
    }

    /// The ARN of a stream of the server's own account and region, whether it is there or not.
    pub fn stream_arn(&self, stream: &str) -> String {
        let Config {
            account, region, ..
        } = &*self.world.config();
        stream::Key {
            account: account.clone(),
            region: region.clone(),
            name: stream.to_owned(),
        }
        .arn()
    }

    /// Failures on demand.
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// Roles, tokens and sessions.
    pub fn identities(&self) -> &Identities {
        &self.world.identities
    }

    /// Changes settings while the server runs.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        self.world.configure(change);
    }

    /// Moves the server's clock forward: what would have become due by then is due at once
    /// (UPDATING, iterators, tokens, sessions, retention, limits).
    pub fn advance(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Stops the server's clock: from now on only [`advance`](Self::advance) moves it, so that
    /// rates and lags come out exact however slow the machine is.
    pub fn stop_clock(&self) {
        self.world.clock.stop();
    }

    /// The calls so far, oldest first; of very many the last 100,000.
    pub fn calls(&self) -> Vec<Call> {
        self.world.calls.all()
    }

    /// How many calls of `operation` (`"*"`: of any) came in, answered or not.
    pub fn count(&self, operation: &str) -> usize {
        self.world.calls.count(operation)
    }

    /// Returns once [`count`](Self::count) is `n` or more.
    pub async fn wait_for_calls(&self, operation: &str, n: usize) {
        self.world.calls.wait_for(operation, n).await;
    }

    /// Forgets calls and counts.
    pub fn clear_calls(&self) {
        self.world.calls.clear();
    }

    /// Calls that are kept waiting by [`Fault::Hang`] or [`Fault::Delay`] right now.
    pub fn held_calls(&self) -> usize {
        self.world.calls.held()
    }

    /// Returns once exactly `n` calls are kept waiting.
    pub async fn wait_for_held_calls(&self, n: usize) {
        self.world.calls.wait_for_held(n).await;
    }

    /// Subscriptions that are open, whether anyone still reads them or not.
    pub fn subscriptions(&self) -> usize {
        self.world.calls.subscriptions()
    }

    /// Returns once exactly `n` subscriptions are open.
    pub async fn wait_for_subscriptions(&self, n: usize) {
        self.world.calls.wait_for_subscriptions(n).await;
    }

    /// Stops listening, breaks off what hangs, answers what is being answered, then returns.
    pub async fn shutdown(self) {
        self.world.closing.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for EmbeddedKinesis {
    fn drop(&mut self) {
        self.world.closing.cancel();
    }
}

/// No state here is left half-changed by a panic in a way that matters to a test.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
