//! SubscribeToShardEvent.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::push_json_text;
use super::records::{ChildShard, RecordView, json_size, push_json_records};
use crate::event_stream::{event, exception};
use crate::protocol::{AwsError, Wire};
use crate::sequence::Digits;
use crate::shard::{Page, Record, Shard};

#[derive(Debug)]
pub(crate) struct Event {
    records: Vec<Arc<Record>>,
    millis_behind_latest: u64,
    goes_on: GoesOn,
}

#[derive(Debug)]
enum GoesOn {
    After(Digits),
    With(Vec<ChildShard>),
}

impl Event {
    pub(crate) fn new(page: Page, continuation: Digits) -> Self {
        Self {
            records: page.records,
            millis_behind_latest: page.millis_behind,
            goes_on: GoesOn::After(continuation),
        }
    }

    /// Of a closed shard, with the shards made of it.
    pub(crate) fn last<'a>(page: Page, children: impl Iterator<Item = &'a Shard>) -> Self {
        Self {
            records: page.records,
            millis_behind_latest: page.millis_behind,
            goes_on: GoesOn::With(children.map(ChildShard::from).collect()),
        }
    }

    pub(crate) fn is_last(&self) -> bool {
        matches!(self.goes_on, GoesOn::With(_))
    }

    pub(crate) fn message(&self, wire: Wire) -> Bytes {
        let payload = match wire {
            Wire::Json => self.json(),
            Wire::Cbor => wire.write(&self.view()),
        };
        match payload {
            Ok(payload) => event("SubscribeToShardEvent", wire, payload),
            Err(error) => exception(&error, wire),
        }
    }

    fn json(&self) -> Result<Vec<u8>, AwsError> {
        let mut out = Vec::with_capacity(json_size(&self.records));
        push_json_records(&mut out, &self.records, self.millis_behind_latest);
        match &self.goes_on {
            GoesOn::After(number) => {
                out.extend_from_slice(b",\"ContinuationSequenceNumber\":");
                push_json_text(&mut out, number.as_str());
            }
            GoesOn::With(children) => {
                out.extend_from_slice(b",\"ContinuationSequenceNumber\":null,\"ChildShards\":");
                out.extend_from_slice(&Wire::Json.write(children)?);
            }
        }
        out.push(b'}');
        Ok(out)
    }

    fn view(&self) -> View<'_> {
        let (after, children) = match &self.goes_on {
            GoesOn::After(number) => (Some(number.as_str()), None),
            GoesOn::With(children) => (None, Some(&children[..])),
        };
        View {
            records: self
                .records
                .iter()
                .map(|it| RecordView::from(&**it))
                .collect(),
            millis_behind_latest: self.millis_behind_latest,
            continuation_sequence_number: after,
            child_shards: children,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    records: Vec<RecordView<'a>>,
    millis_behind_latest: u64,
    continuation_sequence_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    child_shards: Option<&'a [ChildShard]>,
}
