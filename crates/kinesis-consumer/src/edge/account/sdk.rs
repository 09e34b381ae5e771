//! An account's streams by the AWS SDK.

use std::sync::Arc;

use async_trait::async_trait;
use kinesis_edge::{Gate, KinesisClient, Listing, StreamSummary};

use crate::{
    edge::{
        account::{Account, FoundStream},
        kinesis::{
            Kinesis, KinesisError,
            sdk::{LISTS, SdkKinesis, to_error},
        },
    },
    model::keys::StreamIdentifier,
};

/// An account of AWS, in the client's region.
#[derive(Clone, Debug)]
pub struct SdkAccount {
    listing: Listing,
    /// Of no stream; others are made of it.
    kinesis: SdkKinesis,
}

impl SdkAccount {
    /// The client gets the library's time-outs where it has none.
    pub fn new(client: KinesisClient) -> Self {
        Self {
            listing: Listing::new(LISTS.complete_kinesis(&client)),
            kinesis: SdkKinesis::new(client, ""),
        }
    }

    /// The same with a gate before each list of streams and shards.
    #[must_use]
    pub(crate) fn listing_behind(self, gate: Arc<dyn Gate>) -> Self {
        Self {
            listing: self.listing.behind(Arc::clone(&gate)),
            kinesis: self.kinesis.listing_behind(gate),
        }
    }
}

#[async_trait]
impl Account for SdkAccount {
    async fn streams(&self) -> Result<Vec<FoundStream>, KinesisError> {
        let streams = self.listing.all().await;
        let streams = streams.map_err(|failure| to_error("all streams", &failure))?;
        let active = streams.into_iter().filter(|stream| stream.is_active);
        Ok(active.map(found).collect())
    }

    async fn stream(&self, stream: &str) -> Result<FoundStream, KinesisError> {
        let summary = self.listing.describe(stream).await;
        let summary = summary.map_err(|failure| to_error(stream, &failure))?;
        if summary.is_active {
            return Ok(found(summary));
        }
        let text = format!("DescribeStreamSummary of {stream}: it is being made or deleted");
        Err(KinesisError::InUse(text.into()))
    }

    fn open(&self, stream: &FoundStream) -> Arc<dyn Kinesis> {
        Arc::new(self.kinesis.another(&stream.arn))
    }
}

fn found(summary: StreamSummary) -> FoundStream {
    FoundStream {
        id: StreamIdentifier {
            account: summary.account().to_owned(),
            name: summary.name,
            epoch: summary.created,
        },
        arn: summary.arn,
    }
}
