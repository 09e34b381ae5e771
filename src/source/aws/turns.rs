//! Who may probe a shard next, among all applications of one client.
//!
//! A turn lasts for the whole probe, iterator and page, so that none is begun that cannot be
//! finished soon. Applications take turns: where there are more shards than turns, the rounds of
//! all become longer alike.

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// Probes under way. The client's other calls need room beside them.
const ALL: usize = 48;

/// Of them: probes of applications whose probes do not end, of all those together.
const SUSPECT: usize = 8;

#[derive(Debug)]
pub(crate) struct Turns {
    all: Semaphore,
    /// Held by the one probe that waits of those whose shards have a verdict: whoever has none
    /// waits for no more than one of them.
    decided: Mutex<()>,
    suspect: Semaphore,
}

/// The turn of one probe, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _suspect: Option<SemaphorePermit<'a>>,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            all: Semaphore::new(ALL),
            decided: Mutex::new(()),
            suspect: Semaphore::new(SUSPECT),
        }
    }
}

impl Turns {
    /// Waits for a turn. `decided`: the shard has a verdict; `suspect`: the application's last
    /// probes timed out.
    pub(crate) async fn turn(&self, decided: bool, suspect: bool) -> Turn<'_> {
        let _suspect = match suspect {
            true => self.suspect.acquire().await.ok(),
            false => None,
        };
        let _next = match decided {
            true => Some(self.decided.lock().await),
            false => None,
        };
        Turn {
            _suspect,
            _turn: self.all.acquire().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

    use super::*;

    fn under_way(turns: &Turns, suspect: bool) -> Vec<Turn<'_>> {
        let turn = || turns.turn(true, suspect).now_or_never();
        std::iter::from_fn(turn).collect()
    }

    #[tokio::test]
    async fn shards_without_a_verdict_go_first() {
        let turns = Turns::default();
        let held = under_way(&turns, false);
        assert_eq!(held.len(), ALL, "as long as there are no others");
        let ask = |decided| turns.turn(decided, false).map(move |_| decided);
        let asked = [true; 100].into_iter().chain([false; 10]).map(ask);
        let mut asked: FuturesUnordered<_> = asked.collect();
        assert!(asked.next().now_or_never().is_none(), "all turns are taken");
        drop(held);
        let first: Vec<_> = asked.take(11).collect().await;
        assert_eq!(
            first.iter().filter(|decided| !**decided).count(),
            10,
            "{first:?}"
        );
    }

    #[test]
    fn probes_that_do_not_end_leave_room_for_those_that_do() {
        let turns = Turns::default();
        let suspect = under_way(&turns, true);
        assert_eq!(suspect.len(), SUSPECT);
        assert_eq!(under_way(&turns, false).len(), ALL - SUSPECT);
    }
}
