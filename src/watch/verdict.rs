//! What RPCs are answered while there is no snapshot to answer from.

use std::{sync::Arc, time::Duration};

use super::{
    Pace,
    state::{Fetching, Snapshot, State},
    table::Watched,
};
use crate::{error::Error, trigger::StreamSource};

impl<S: Snapshot> State<S> {
    /// What to answer from; `None`: nothing is known yet, or something newer comes at once.
    pub(super) fn verdict(
        &self,
        source: &impl Watched,
        pace: &Pace,
        newest: bool,
    ) -> Option<Result<&S, Error>> {
        if newest && self.pace == Fetching::Now {
            return None;
        }
        if let Some(snapshot) = self.standing(pace) {
            return Some(Ok(snapshot));
        }
        if let Some(error) = self.failure() {
            return Some(Err(Error::Source(Arc::clone(error))));
        }
        Some(Err(too_old(source, self.last_good()?.elapsed())))
    }
}

pub(super) fn not_yet(StreamSource { stream, region, .. }: &StreamSource) -> Error {
    Error::NotYet(format!(
        "AWS is being asked about stream {stream} in {region}, with no answer yet: ask again. If this stays, see the scaler's aws_calls metric, aws.callsPerSecond and aws.timeout"
    ))
}

fn too_old(source: &impl Watched, age: Duration) -> Error {
    let (StreamSource { stream, region, .. }, table) = source.names();
    let age = age.as_secs();
    Error::NotYet(match table {
        Some(table) => format!(
            "the last answer about stream {stream} in {region} and lease table {} is {age} s old and the next look has not ended yet: see the scaler's aws_call_duration metric, and raise aws.maxStale where AWS is slow for long",
            table.as_asked()
        ),
        None => format!(
            "the last answer about stream {stream} in {region} is {age} s old and the next look has not ended yet: see the scaler's aws_call_duration metric, and raise aws.maxStale where AWS is slow for long; where its unlisted_streams metric is not 0, allow kinesis:ListShards or raise aws.callsPerSecond"
        ),
    })
}
