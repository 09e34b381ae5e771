//! Failures in a row, and when they are certain.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::SourceError;

/// Permanent failures in a row that are believed: one alone may be a moment of AWS's.
const BELIEVED: u32 = 2;

/// Failures in a row of one source, or of the reads of one shard.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The last.
    pub error: Arc<SourceError>,
    /// When the first of them happened.
    pub since: Instant,
    /// How many there are, at least 1.
    pub in_a_row: u32,
    /// How many of the last ones were permanent.
    permanent_in_a_row: u32,
}

impl Failure {
    /// `error` happened now, after `before` or after a good answer.
    pub fn after(before: Option<Self>, error: SourceError) -> Self {
        let permanent = before.as_ref().map_or(0, |it| it.permanent_in_a_row);
        Self {
            permanent_in_a_row: match error.kind.is_permanent() {
                true => permanent.saturating_add(1),
                false => 0,
            },
            since: before.as_ref().map_or_else(Instant::now, |it| it.since),
            in_a_row: before.map_or(0, |it| it.in_a_row).saturating_add(1),
            error: Arc::new(error),
        }
    }

    /// Is it a deleted stream or a denial, seen twice in a row? Then what was known before it no
    /// longer stands in.
    pub fn is_certain(&self) -> bool {
        self.permanent_in_a_row >= BELIEVED
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::error::SourceErrorKind::{self, AccessDenied, NotFound, Throttled, Timeout};

    #[rstest]
    #[case(&[AccessDenied], false)]
    #[case(&[AccessDenied, AccessDenied], true)]
    #[case(&[NotFound, AccessDenied], true)]
    #[case(&[Timeout, AccessDenied], false)]
    #[case(&[Timeout, Timeout, Throttled, AccessDenied], false)]
    #[case(&[AccessDenied, Timeout, AccessDenied], false)]
    #[case(&[Timeout, AccessDenied, AccessDenied], true)]
    #[case(&[AccessDenied, AccessDenied, Timeout], false)]
    fn two_permanent_failures_in_a_row_are_certain(
        #[case] kinds: &[SourceErrorKind],
        #[case] certain: bool,
    ) {
        let failure = kinds.iter().fold(None, |before, kind| {
            Some(Failure::after(before, kind.example()))
        });
        let failure = failure.unwrap();
        assert_eq!(failure.is_certain(), certain);
        assert_eq!(failure.in_a_row as usize, kinds.len());
    }
}
