//! Lines that would come by the hundred: one a minute of each at the most, which says how many
//! there were.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const APART: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<String, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    times_since: u64,
}

impl Seldom {
    /// Takes note that it happened. How often it did since it was told, where it is to be told now.
    pub(crate) fn times(&self, what: &str) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.get_mut(what) else {
            let first = Told {
                at: now,
                times_since: 0,
            };
            told.insert(what.to_owned(), first);
            return Some(1);
        };
        last.times_since += 1;
        if now - last.at < APART {
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.times_since))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_told_each_minute_with_how_often() {
        let seldom = Seldom::default();
        assert_eq!(seldom.times("GetRecords"), Some(1), "the first at once");
        assert_eq!(seldom.times("renew"), Some(1), "each by itself");
        for _ in 0..59 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(seldom.times("GetRecords"), None);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(seldom.times("GetRecords"), Some(60));
        assert_eq!(seldom.times("GetRecords"), None);
    }
}
