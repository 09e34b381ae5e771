//! Does a KCL 3 leader assign this application's leases?
//!
//! It does while `Migration3.0` says so and the leader lock's version moves within the lock's
//! duration. Like lease expiry this is judged by an observer's own monotonic clock. A lock that
//! stands still is of workers that are gone: the table can be taken over.

use std::time::Duration;

use tokio::time::Instant;

use crate::edge::lease_table::{Kcl3State, LeaderLock};

/// What an observer remembers of the lock.
#[derive(Debug, Default)]
pub(crate) struct LeaderWatch {
    seen: Option<(LeaderLock, Instant)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Leadership {
    /// No KCL 3 leader: leases are anybody's to take.
    None,
    /// There is a lock: whether its owner lives shows within this time.
    Unclear(Duration),
    /// The lock moved.
    Led {
        /// The leader's worker id.
        leader: String,
        /// `cv` of `Migration3.0`.
        client_version: String,
    },
}

impl LeaderWatch {
    /// Takes in what the table said at `now`.
    pub(crate) fn observe(&mut self, state: &Kcl3State, now: Instant) -> Leadership {
        let leads = |version: &&String| {
            matches!(
                version.as_str(),
                "CLIENT_VERSION_3X" | "CLIENT_VERSION_3X_WITH_ROLLBACK"
            )
        };
        let (Some(client_version), Some(lock)) =
            (state.client_version.as_ref().filter(leads), &state.leader)
        else {
            self.seen = None;
            return Leadership::None;
        };
        match &self.seen {
            Some((seen, _)) if seen.version != lock.version => {
                self.seen = Some((lock.clone(), now));
                Leadership::Led {
                    leader: lock.owner.clone(),
                    client_version: client_version.clone(),
                }
            }
            Some((_, since)) => {
                match Duration::from_millis(lock.lease_millis).saturating_sub(now - *since) {
                    Duration::ZERO => Leadership::None,
                    left => Leadership::Unclear(left),
                }
            }
            None => {
                self.seen = Some((lock.clone(), now));
                Leadership::Unclear(Duration::from_millis(lock.lease_millis))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(client_version: &str, lock: Option<&str>) -> Kcl3State {
        Kcl3State {
            client_version: Some(client_version.into()),
            denied: None,
            leader: lock.map(|version| LeaderLock {
                owner: "java-1".into(),
                version: version.into(),
                lease_millis: 120_000,
            }),
        }
    }

    #[test]
    fn a_moving_lock_leads() {
        let mut watch = LeaderWatch::default();
        let start = Instant::now();
        let first = watch.observe(&state("CLIENT_VERSION_3X", Some("a")), start);
        assert_eq!(first, Leadership::Unclear(Duration::from_secs(120)));
        let second = watch.observe(
            &state("CLIENT_VERSION_3X", Some("b")),
            start + Duration::from_secs(30),
        );
        assert!(matches!(second, Leadership::Led { .. }), "{second:?}");
    }

    #[test]
    fn a_lock_that_stands_still_does_not() {
        let mut watch = LeaderWatch::default();
        let start = Instant::now();
        let still = state("CLIENT_VERSION_3X_WITH_ROLLBACK", Some("a"));
        watch.observe(&still, start);
        let later = watch.observe(&still, start + Duration::from_secs(119));
        assert_eq!(later, Leadership::Unclear(Duration::from_secs(1)));
        assert_eq!(
            watch.observe(&still, start + Duration::from_secs(120)),
            Leadership::None
        );
    }

    #[test]
    fn no_lock_or_another_version_does_not() {
        let mut watch = LeaderWatch::default();
        let now = Instant::now();
        assert_eq!(
            watch.observe(&state("CLIENT_VERSION_3X", None), now),
            Leadership::None
        );
        assert_eq!(
            watch.observe(&state("CLIENT_VERSION_2X", Some("a")), now),
            Leadership::None
        );
        assert_eq!(watch.observe(&Kcl3State::default(), now), Leadership::None);
    }
}
