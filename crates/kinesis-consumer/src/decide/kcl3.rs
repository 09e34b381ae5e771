//! Who says which worker holds which lease: the workers themselves, or a KCL 3 leader.
//!
//! A leader does while `Migration3.0` says so and its lock, `Leader`, moves. A leader that died
//! leaves its lock standing for two minutes before another KCL 3 worker may have it, and for ever
//! where there is none. So that work goes on earlier, what the leases show counts too: a leader
//! that holds leases renews them, and where no lease at all moves nobody lives. Like lease expiry
//! all of it is judged by an observer's own monotonic clock.

use std::time::Duration;

use tokio::time::Instant;

use super::assignment::Observations;
use crate::{
    edge::lease_table::{Kcl3State, LeaderLock},
    model::{keys::LeaseKey, lease::Lease},
};

/// A leader that lives moves its lock each 30 s.
const LOCK_SILENCE: Duration = Duration::from_secs(35);

/// Who says which worker holds which lease.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Regime {
    /// The workers: they take, ask and steal.
    #[default]
    Taking,
    /// A KCL 3 leader is to come, as KCL 3 workers are there and none leads them: what nobody
    /// holds is taken, and nothing is stolen.
    Leaderless,
    /// A KCL 3 leader: workers hold what it gives them.
    Led {
        /// The leader's worker id.
        leader: String,
    },
}

impl Regime {
    /// The worker that says it.
    pub(crate) fn leader(&self) -> Option<&str> {
        match self {
            Self::Taking | Self::Leaderless => None,
            Self::Led { leader } => Some(leader),
        }
    }
}

/// What the leases show of the leader's life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signs {
    /// When one of the leader's leases moved last. `None`: it holds none.
    pub(crate) leader_moved: Option<Instant>,
    /// Until when a lease may stand still that somebody holds, of all the last one: whose holder
    /// may be silent for longer is no dead one sooner.
    pub(crate) any_may_stand: Option<Instant>,
    /// Whether a KCL worker holds a lease whose time is not over.
    pub(crate) kcl_lives: bool,
    /// Whether a worker of this library renews a lease as one that found no leader.
    pub(crate) peer_takes: bool,
}

/// What an observer remembers of the lock.
#[derive(Debug, Default)]
pub(crate) struct LeaderWatch {
    has_looked: bool,
    lock: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    lock: LeaderLock,
    since: Instant,
    /// When it was seen there last.
    looked: Instant,
    /// It came or moved while we looked on.
    moved: bool,
    /// Its owner was judged to be dead, which holds until it moves.
    dead: bool,
}

impl LeaderWatch {
    /// Takes in what the table said at `now`.
    pub(crate) fn observe(&mut self, state: &Kcl3State, now: Instant) {
        let lock = state.leader.as_ref().filter(|_| state.is_led());
        let has_looked = std::mem::replace(&mut self.has_looked, true);
        self.lock = match (self.lock.take(), lock) {
            (_, None) => None,
            (Some(seen), Some(lock)) if seen.lock.version == lock.version => Some(Seen {
                looked: now,
                ..seen
            }),
            (_, Some(lock)) => Some(Seen {
                lock: lock.clone(),
                since: now,
                looked: now,
                moved: has_looked,
                dead: false,
            }),
        };
    }

    /// The owner of the lock.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.lock.as_ref().map(|seen| seen.lock.owner.as_str())
    }

    /// Who rules now, as the last state and these signs have it.
    pub(crate) fn regime(
        &mut self,
        state: &Kcl3State,
        signs: &Signs,
        failover: Duration,
        now: Instant,
    ) -> Regime {
        if !state.is_led() {
            return Regime::Taking;
        }
        if let Some(seen) = &mut self.lock {
            seen.dead |= is_dead(seen, signs, failover, now);
            if !seen.dead {
                let leader = seen.lock.owner.clone();
                return Regime::Led { leader };
            }
        }
        match signs.kcl_lives {
            true => Regime::Leaderless,
            false => Regime::Taking,
        }
    }
}

fn is_dead(seen: &Seen, signs: &Signs, failover: Duration, now: Instant) -> bool {
    // Reads that fail are no silence.
    let still = seen.looked - seen.since;
    let quiet = |moved: Instant| now > moved.max(seen.since) + failover;
    still >= Duration::from_millis(seen.lock.lease_millis)
        || (signs.peer_takes && !seen.moved)
        || match signs.leader_moved {
            Some(moved) => quiet(moved),
            None => {
                let is_over = |may_stand: Instant| now > may_stand.max(seen.since + failover);
                signs.any_may_stand.is_some_and(is_over) || still >= LOCK_SILENCE
            }
        }
}

/// What the leases show of the life of `leader`. `held`: those whose shards this process reads.
pub(crate) fn signs(
    leases: &[Lease],
    observations: &Observations,
    leader: Option<&str>,
    held: &dyn Fn(&LeaseKey) -> bool,
    now: Instant,
) -> Signs {
    let mut signs = Signs::default();
    for lease in leases {
        let (Some(holder), Some(since)) = (lease.holder(), observations.moved(lease)) else {
            continue;
        };
        let may_stand = since + observations.failover(lease);
        signs.any_may_stand = signs.any_may_stand.max(Some(may_stand));
        // Under its name, after a restart, it may be us.
        if Some(holder) == leader && !held(&lease.key) {
            signs.leader_moved = signs.leader_moved.max(Some(since));
        }
        if observations.is_available(lease, now) {
            continue;
        }
        if !lease.is_ours() {
            signs.kcl_lives = true;
        } else if observations.has_moved(lease) && !held(&lease.key) {
            // By load, its throughput is written as well.
            signs.peer_takes |= lease.throughput.is_none() || lease.share_permille.is_some();
        }
    }
    signs
}

/// The leases that a leader gave to us, and that nobody reads for us yet. However many: the leader
/// has the limit, and gives what is left again to whom it gave it before.
pub(crate) fn given<'a>(
    leases: &'a [Lease],
    me: &str,
    held: &dyn Fn(&LeaseKey) -> bool,
) -> Vec<&'a Lease> {
    // One that moves is still its holder's (`LeaseDiscoverer.java`).
    let is_given = |lease: &&Lease| lease.holder() == Some(me) && lease.checkpoint_owner.is_none();
    let left = leases
        .iter()
        .filter(|lease| !lease.is_finished() && !held(&lease.key));
    left.filter(is_given).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model::sequence::Checkpoint;

    const FAILOVER: Duration = Duration::from_secs(10);

    fn state(client_version: &str, lock: Option<&str>) -> Kcl3State {
        Kcl3State {
            client_version: Some(client_version.into()),
            denied: None,
            leader: lock.map(|version| LeaderLock {
                owner: "java".into(),
                version: version.into(),
                lease_millis: 120_000,
            }),
        }
    }

    fn led() -> Regime {
        Regime::Led {
            leader: "java".to_owned(),
        }
    }

    /// What is judged after so many seconds of a lock that moved at 0, if it `moved`, and stands.
    fn judged(moved: bool, seconds: u64, signs: impl FnOnce(Instant) -> Signs) -> Regime {
        let start = Instant::now();
        let mut watch = LeaderWatch::default();
        if moved {
            watch.observe(&state("CLIENT_VERSION_3X", Some("a")), start);
        }
        let state = state("CLIENT_VERSION_3X", Some("b"));
        watch.observe(&state, start);
        let now = start + Duration::from_secs(seconds);
        watch.observe(&state, now);
        watch.regime(&state, &signs(start), FAILOVER, now)
    }

    fn seconds(start: Instant, seconds: u64) -> Option<Instant> {
        Some(start + Duration::from_secs(seconds))
    }

    #[rstest]
    #[case::first_seen(false, 0, led())]
    #[case::silent(true, 34, led())]
    #[case::silent_for_too_long(true, 35, Regime::Taking)]
    fn a_leader_without_leases_lives_as_long_as_its_lock_moves(
        #[case] moved: bool,
        #[case] after: u64,
        #[case] want: Regime,
    ) {
        assert_eq!(judged(moved, after, |_| Signs::default()), want);
    }

    #[rstest]
    #[case::renews(100, 95, led())]
    #[case::renewed_within_the_failover_time(40, 30, led())]
    #[case::renews_no_more(41, 30, Regime::Leaderless)]
    #[case::does_not_move_its_lock(120, 119, Regime::Leaderless)]
    fn a_leader_with_leases_lives_as_long_as_it_renews_them(
        #[case] after: u64,
        #[case] renewed: u64,
        #[case] want: Regime,
    ) {
        let signs = |start| Signs {
            leader_moved: seconds(start, renewed),
            any_may_stand: seconds(start, after + FAILOVER.as_secs()),
            kcl_lives: true,
            ..Signs::default()
        };
        assert_eq!(judged(true, after, signs), want);
    }

    #[test]
    fn where_no_lease_moves_nobody_lives() {
        let signs = |start| Signs {
            any_may_stand: seconds(start, FAILOVER.as_secs()),
            ..Signs::default()
        };
        assert_eq!(judged(false, 10, signs), led());
        assert_eq!(judged(false, 11, signs), Regime::Taking);
    }

    #[test]
    fn a_lock_that_nobody_reads_is_not_silent() {
        let start = Instant::now();
        let mut watch = LeaderWatch::default();
        let state = state("CLIENT_VERSION_3X", Some("a"));
        watch.observe(&state, start);
        let mut after = |seconds| {
            let now = start + Duration::from_secs(seconds);
            watch.regime(&state, &Signs::default(), FAILOVER, now)
        };
        assert_eq!(after(200), led());
    }

    /// Who takes has not looked yet.
    #[test]
    fn a_lock_that_comes_is_a_leaders_whatever_peers_do() {
        let now = Instant::now();
        let mut watch = LeaderWatch::default();
        watch.observe(&state("CLIENT_VERSION_3X", None), now);
        let state = state("CLIENT_VERSION_3X", Some("a"));
        watch.observe(&state, now);
        let signs = Signs {
            peer_takes: true,
            ..Signs::default()
        };
        assert_eq!(watch.regime(&state, &signs, FAILOVER, now), led());
    }

    #[test]
    fn a_peer_that_takes_has_judged_the_lock_unless_it_moves() {
        let signs = |_| Signs {
            peer_takes: true,
            ..Signs::default()
        };
        assert_eq!(judged(false, 0, signs), Regime::Taking);
        assert_eq!(judged(true, 0, signs), led());
    }

    #[rstest]
    #[case::no_lock("CLIENT_VERSION_3X", None, false, Regime::Taking)]
    #[case::no_lock_yet("CLIENT_VERSION_3X", None, true, Regime::Leaderless)]
    #[case::as_kcl_2("CLIENT_VERSION_2X", Some("a"), true, Regime::Taking)]
    #[case::not_yet("CLIENT_VERSION_UPGRADE_FROM_2X", Some("a"), true, Regime::Taking)]
    fn only_a_lock_of_version_3_leads(
        #[case] version: &str,
        #[case] lock: Option<&str>,
        #[case] kcl_lives: bool,
        #[case] want: Regime,
    ) {
        let (state, now) = (state(version, lock), Instant::now());
        let mut watch = LeaderWatch::default();
        watch.observe(&state, now);
        let signs = Signs {
            kcl_lives,
            ..Signs::default()
        };
        assert_eq!(watch.regime(&state, &signs, FAILOVER, now), want);
    }

    /// As a thrifty worker's.
    #[test]
    fn a_lease_whose_holder_may_be_silent_for_longer_is_no_sign_of_death() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let leases = [Lease {
            failover_millis: Some(25_000),
            native_counter: Some(0),
            ..lease("0", Some("thrifty"), None)
        }];
        let mut observations = Observations::new(FAILOVER);
        observations.observe(&leases, start);
        let mut watch = LeaderWatch::default();
        let state = state("CLIENT_VERSION_3X", Some("a"));
        watch.observe(&state, start);
        let mut judged = |now| {
            observations.observe(&leases, now);
            let signs = signs(&leases, &observations, Some("java"), &|_| false, now);
            watch.regime(&state, &signs, FAILOVER, now)
        };
        assert_eq!(judged(after(25)), led());
        assert_eq!(judged(after(26)), Regime::Taking);
    }

    #[rstest]
    #[case::by_number(None, None, true)]
    #[case::by_load(Some(0), Some(0), true)]
    #[case::who_is_led(Some(0), None, false)]
    fn a_peer_that_takes_shows(
        #[case] throughput: Option<u64>,
        #[case] share: Option<u16>,
        #[case] want: bool,
    ) {
        let start = Instant::now();
        let mut observations = Observations::new(FAILOVER);
        let renewed = |counter| {
            [Lease {
                counter,
                native_counter: Some(counter),
                throughput,
                share_permille: share,
                ..lease("0", Some("peer"), None)
            }]
        };
        observations.observe(&renewed(0), start);
        let now = start + Duration::from_secs(3);
        observations.observe(&renewed(1), now);
        let signs = signs(&renewed(1), &observations, Some("java"), &|_| false, now);
        assert_eq!(signs.peer_takes, want);
    }

    fn lease(shard: &str, owner: Option<&str>, checkpoint_owner: Option<&str>) -> Lease {
        Lease {
            owner: owner.map(str::to_owned),
            checkpoint_owner: checkpoint_owner.map(str::to_owned),
            ..Lease::new(shard, Checkpoint::TrimHorizon)
        }
    }

    #[test]
    fn what_a_leader_gives_is_taken_once_nobody_has_it() {
        let finished = Lease {
            checkpoint: Checkpoint::ShardEnd,
            ..lease("4", Some("me"), None)
        };
        let leases = [
            lease("0", Some("me"), None),
            lease("1", Some("me"), Some("java")),
            lease("2", None, None),
            lease("3", Some("java"), None),
            finished,
            lease("5", Some("me"), None),
            lease("6", Some("me"), None),
        ];
        let held = |key: &LeaseKey| key.shard.as_str() == "0";
        let given = given(&leases, "me", &held);
        let given: Vec<_> = given.iter().map(|lease| lease.key.shard.as_str()).collect();
        assert_eq!(given, ["5", "6"]);
    }
}
