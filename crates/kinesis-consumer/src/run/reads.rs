//! Reads under way, of all shards: few at a time, first come, first served.
//!
//! Who takes a turn has room for the answer already, and waits for nothing while it reads: so turns
//! always come. Of them, shards that are behind have most, and those at the tip what is left: their
//! answers are small, and do not wait until all large ones have come. Shards whose last read failed
//! have few: streams that hang leave turns to the others.

use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(crate) struct Reads {
    all: Semaphore,
    behind: Semaphore,
    failing: Semaphore,
}

/// What a shard's read is likely to come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outlook {
    /// A small answer.
    Tip,
    /// An answer as large as answers are.
    Behind,
    /// None: the last read failed.
    Failing,
}

/// The turn of one read, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _of_its_kind: Option<SemaphorePermit<'a>>,
    _of_all: SemaphorePermit<'a>,
}

impl Reads {
    pub(crate) fn new(turns: usize) -> Self {
        let behind = (turns * 3 / 4).max(1);
        Self {
            all: Semaphore::new(turns),
            behind: Semaphore::new(behind),
            failing: Semaphore::new((turns / 8).max(1)),
        }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, outlook: Outlook) -> Turn<'_> {
        Turn {
            _of_its_kind: match outlook {
                Outlook::Tip => None,
                Outlook::Behind => Some(permit(&self.behind).await),
                Outlook::Failing => Some(permit(&self.failing).await),
            },
            _of_all: permit(&self.all).await,
        }
    }
}

async fn permit(turns: &Semaphore) -> SemaphorePermit<'_> {
    let permit = turns.acquire().await;
    permit.unwrap_or_else(|_| unreachable!("never closed"))
}

#[cfg(test)]
mod tests {
    use std::iter;

    use futures::FutureExt;

    use super::*;

    fn under_way(reads: &Reads, outlook: Outlook) -> Vec<Turn<'_>> {
        iter::from_fn(|| reads.turn(outlook).now_or_never()).collect()
    }

    #[test]
    fn shards_that_are_behind_leave_turns_to_those_at_the_tip() {
        let reads = Reads::new(32);
        let behind = under_way(&reads, Outlook::Behind);
        assert_eq!(behind.len(), 24);
        assert_eq!(under_way(&reads, Outlook::Tip).len(), 8);
        drop(behind);
        assert_eq!(under_way(&reads, Outlook::Tip).len(), 32);
    }

    #[test]
    fn shards_that_fail_take_no_turns_of_those_that_are_behind() {
        let reads = Reads::new(32);
        let failing = under_way(&reads, Outlook::Failing);
        assert_eq!(failing.len(), 4);
        assert_eq!(under_way(&reads, Outlook::Behind).len(), 24);
        assert_eq!(under_way(&reads, Outlook::Tip).len(), 28);
    }

    #[test]
    fn turns_come_in_the_order_they_were_asked_for() {
        let reads = Reads::new(1);
        let first = reads.turn(Outlook::Tip).now_or_never().expect("it is free");
        let mut second = Box::pin(reads.turn(Outlook::Behind));
        let mut third = Box::pin(reads.turn(Outlook::Tip));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "overtook the second");
        drop((&mut second).now_or_never().expect("its turn"));
        assert!(third.now_or_never().is_some());
    }
}
