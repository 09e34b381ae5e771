//! How often failed calls may be repeated: so many times at once, and then as a share of the calls
//! that are answered. While AWS is down, many sources do not ask it many times as often.

use std::sync::atomic::{AtomicU32, Ordering};

/// Answered calls that pay for one retry.
const ANSWERS: u32 = 10;

/// Retries that may be saved up; there are as many at the start.
const MOST: u32 = 20;

/// The retries left, in answered calls.
#[derive(Debug)]
pub(crate) struct Retries(AtomicU32);

impl Default for Retries {
    fn default() -> Self {
        Self(AtomicU32::new(MOST * ANSWERS))
    }
}

impl Retries {
    /// A call was answered.
    pub(crate) fn answered(&self) {
        let more = |left: u32| (left < MOST * ANSWERS).then_some(left + 1);
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes a retry, if one is left.
    pub(crate) fn take(&self) -> bool {
        let less = |left: u32| left.checked_sub(ANSWERS);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_calls_that_are_answered() {
        let retries = Retries::default();
        let taken = || (0..1000).filter(|_| retries.take()).count();
        assert_eq!(taken(), 20, "those that were saved up");
        for _ in 0..100 {
            retries.answered();
        }
        assert_eq!(taken(), 10);
        for _ in 0..100_000 {
            retries.answered();
        }
        assert_eq!(taken(), 20, "no more are saved up");
    }
}
