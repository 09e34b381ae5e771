//! Fetches: each fetcher asks AWS about one source, and remembers from fetch to fetch what it
//! needs.

mod application;
mod heartbeats;
mod latest;
mod older;
mod probing;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::Instant;

pub use self::application::{ApplicationFetcher, RACED_A_RESHARD};
use crate::{
    error::{Error, SourceError},
    source::{
        aws::{Admitted, Aws},
        shards::{self, OpenShards},
        snapshot::{ApplicationSnapshot, StreamSnapshot},
    },
    trigger::{ApplicationSource, LeaseTable, StreamSource, tenant::Tenant},
};

/// Asks AWS about one source.
#[async_trait]
pub trait Fetch: fmt::Debug + Send {
    /// What is known afterwards.
    type Snapshot;

    /// What AWS says now.
    ///
    /// # Errors
    /// Whenever it is not known for certain. Never a partial answer, never a made-up zero.
    async fn fetch(&mut self, request: FetchRequest) -> Result<Self::Snapshot, SourceError>;

    /// May it be repeated before the next refresh, after it failed so?
    fn may_retry(&self, _failed: &SourceError) -> bool {
        true
    }
}

/// How much of a source to fetch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FetchRequest {
    /// Of an application: the age of what is unread, too.
    pub lag: bool,
    /// Only what may change within seconds: has a record arrived where all was read?
    pub quick: bool,
}

/// Fetches the open shards of a stream.
pub type StreamFetch = Box<dyn Fetch<Snapshot = StreamSnapshot>>;

/// Fetches the work of an application.
pub type ApplicationFetch = Box<dyn Fetch<Snapshot = Arc<ApplicationSnapshot>>>;

/// Makes the fetchers of sources, which ask nothing yet.
pub trait Fetchers: Send + Sync {
    /// Takes on a source of somebody's: the AWS clients that it needs, to be held until it has a
    /// fetcher.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: it needs one more than it may have.
    fn admit(
        &self,
        _stream: &StreamSource,
        _table: Option<&LeaseTable>,
        _tenant: &Tenant,
    ) -> Result<Admitted, Error> {
        Ok(Admitted::default())
    }
    /// For the open shards of a stream. `tenant`: who has a share of the quota.
    fn stream(&self, source: &StreamSource, tenant: &Tenant) -> StreamFetch;
    /// For the work of an application.
    fn application(&self, source: &ApplicationSource) -> ApplicationFetch;
}

impl Fetchers for Arc<Aws> {
    fn admit(
        &self,
        stream: &StreamSource,
        table: Option<&LeaseTable>,
        tenant: &Tenant,
    ) -> Result<Admitted, Error> {
        Aws::admit(self, stream, table, tenant)
    }

    fn stream(&self, source: &StreamSource, tenant: &Tenant) -> StreamFetch {
        Box::new(shards::open_shards(self, source, tenant))
    }

    fn application(&self, source: &ApplicationSource) -> ApplicationFetch {
        let reads = shards::application(self, source);
        Box::new(ApplicationFetcher::new(source.clone(), reads))
    }
}

#[async_trait]
impl Fetch for OpenShards {
    type Snapshot = StreamSnapshot;

    async fn fetch(&mut self, _: FetchRequest) -> Result<StreamSnapshot, SourceError> {
        let open_shards = self.count().await?;
        let at = Instant::now();
        Ok(StreamSnapshot { at, open_shards })
    }

    fn may_retry(&self, _: &SourceError) -> bool {
        Self::may_retry(self)
    }
}
