//! Eyes on sources: each asks AWS about one of them, and remembers from look to look what it needs to.

mod application;
mod observation;
mod probing;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use self::application::ApplicationFetcher;
use crate::{
    decision::memories::Recorder,
    error::SourceError,
    source::{
        aws::Aws,
        shards::{self, OpenShards},
        snapshot::Snapshot,
    },
    trigger::Source,
};

/// Asks AWS about one source.
#[async_trait]
pub trait Fetch: fmt::Debug + Send {
    /// What AWS says now.
    ///
    /// # Errors
    /// Whenever it is not known for certain. Never a partial answer, never a made-up zero.
    async fn fetch(&mut self, request: FetchRequest) -> Result<Snapshot, SourceError>;
}

/// How much of a source is request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FetchRequest {
    /// The age of what is unread, too.
    pub lag: bool,
    /// Only what may have changed within seconds: has a record arrived where all was read?
    pub quick: bool,
}

/// The fetcher on a source. Asks nothing yet. `recorder`: where what is decided from lag is recorded, if anywhere.
pub fn fetcher(
    aws: &Arc<Aws>,
    recorder: Option<&Arc<Recorder>>,
    source: &Source,
) -> Box<dyn Fetch> {
    match &source.lease_table {
        None => Box::new(shards::open_shards(aws, source)),
        Some(table) => Box::new(ApplicationFetcher::new(
            source.clone(),
            shards::application(aws, source, table),
            recorder.cloned(),
        )),
    }
}

#[async_trait]
impl Fetch for OpenShards {
    async fn fetch(&mut self, _: FetchRequest) -> Result<Snapshot, SourceError> {
        self.count().await.map(Snapshot::OpenShards)
    }
}
