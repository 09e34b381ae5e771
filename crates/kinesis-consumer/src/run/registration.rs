//! What a worker knows of the consumer that it subscribes with.

use std::{future::Future, sync::Arc};

use tokio::sync::Mutex;

/// Shards ask one at a time, so that one of them finds out for all.
#[derive(Debug, Default)]
pub(crate) struct Registration(Mutex<Known>);

#[derive(Debug, Default)]
pub(crate) enum Known {
    #[default]
    Nothing,
    /// Its ARN.
    Registered(Arc<str>),
    /// There can be none.
    Refused,
}

impl Registration {
    /// The consumer's ARN, found out where nothing is known. `None`: there can be none.
    pub(crate) async fn arn(&self, find: impl Future<Output = Known>) -> Option<Arc<str>> {
        let mut known = self.0.lock().await;
        if let Known::Nothing = *known {
            *known = find.await;
        }
        match &*known {
            Known::Registered(arn) => Some(Arc::clone(arn)),
            Known::Nothing | Known::Refused => None,
        }
    }

    /// Nobody knows that consumer any more: somebody deregistered it.
    pub(crate) async fn forget(&self, arn: &str) {
        let mut known = self.0.lock().await;
        if matches!(&*known, Known::Registered(known) if **known == *arn) {
            *known = Known::Nothing;
        }
    }
}
