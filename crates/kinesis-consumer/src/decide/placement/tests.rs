//! The rule: it comes to rest, near the best, and noise moves nothing.

use super::*;

type Fleet = Loads<usize, usize>;

const MANY: usize = usize::MAX;

/// Each worker's leases, by their shares, a thousandth of a worker's time for 10 bytes.
fn fleet(shares: &[&[u64]]) -> Fleet {
    let mut fleet = Fleet::of(0..shares.len());
    let mut key = 0;
    for (worker, shares) in shares.iter().enumerate() {
        for share in *shares {
            key += 1;
            let lease = Weighed {
                key,
                share: *share,
                bytes: *share * 10,
                may_move: true,
            };
            fleet.put(worker, lease);
        }
    }
    fleet
}

fn loads(fleet: &Fleet) -> Vec<u64> {
    fleet.0.keys().map(|worker| fleet.load(*worker)).collect()
}

fn counts(fleet: &Fleet) -> Vec<usize> {
    fleet.0.values().map(Vec::len).collect()
}

fn rested(fleet: &mut Fleet) {
    let leases = fleet.0.values_mut().flatten();
    leases.for_each(|lease| lease.may_move = true);
}

/// Moves until nothing moves, each lease rested before the next. How many.
fn settle(fleet: &mut Fleet) -> usize {
    let mut moves = 0;
    while let Some(next) = fleet.next_move(MANY) {
        fleet.make(next);
        rested(fleet);
        moves += 1;
        assert!(moves < 1000, "it never rests: {fleet:?}");
    }
    moves
}

fn random(rng: &mut fastrand::Rng) -> Fleet {
    let (workers, leases) = (rng.usize(1..20), rng.usize(0..100));
    // Some shards have a hundred times as much as others.
    let weight = |rng: &mut fastrand::Rng| (10.0_f64.powf(2.0 * rng.f64()) * 5.0) as u64;
    let mut shares = vec![Vec::new(); workers];
    for _ in 0..leases {
        shares[rng.usize(0..workers)].push(weight(rng));
    }
    let shares: Vec<&[u64]> = shares.iter().map(Vec::as_slice).collect();
    fleet(&shares)
}

#[test]
fn the_neighbours_of_a_hot_shard_move_and_then_all_rests() {
    let mut fleet = fleet(&[&[700, 100, 100, 100], &[100; 4], &[100; 4]]);
    assert_eq!(settle(&mut fleet), 3);
    assert_eq!(loads(&fleet), [700, 600, 500]);
    // Its load is one shard's: nobody can help.
    assert_eq!(fleet.next_move(MANY), None);
}

#[test]
fn nobody_stays_without_a_lease_beside_a_hot_one() {
    let mut fleet = fleet(&[&[300, 0, 0, 0], &[]]);
    let next = fleet.next_by_number(MANY).expect("one that takes no time");
    assert_eq!((next.from, next.to), (0, 1));
    fleet.make(next);
    assert_eq!(loads(&fleet), [300, 0]);
    assert_eq!(counts(&fleet), [3, 1]);
    assert_eq!(fleet.next_by_number(MANY), None);
}

#[test]
fn it_comes_to_rest_near_the_best() {
    for seed in 0..500 {
        let mut fleet = random(&mut fastrand::Rng::with_seed(seed));
        let total: u64 = loads(&fleet).iter().sum();
        settle(&mut fleet);
        let mean = total / fleet.0.len() as u64;
        let rich = fleet.0.keys().copied().max_by_key(|it| fleet.load(*it));
        let rich = rich.unwrap_or_default();
        let leases = || fleet.leases(rich).map(|lease| lease.share);
        // Half as much again as the least that it could give, or a lease that fills it alone.
        let least = leases().min().unwrap_or(0);
        let most = mean + LEAST_SPREAD.max(least + least.div_ceil(2));
        let load = fleet.load(rich);
        assert!(load <= most || leases().count() == 1, "{seed}: {fleet:?}");
    }
}

#[test]
fn no_move_is_taken_back() {
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut fleet = random(&mut rng);
        // Workers of other strength, and records that cost more.
        for lease in fleet.0.values_mut().flatten() {
            lease.bytes = rng.u64(1..5) * lease.share;
        }
        while let Some(next) = fleet.next_move(MANY) {
            fleet.make(next);
            rested(&mut fleet);
            let again = fleet.next_move(MANY);
            let is_back = |again: Move<usize, usize>| {
                (again.key, again.from, again.to) == (next.key, next.to, next.from)
            };
            assert!(!again.is_some_and(is_back), "{seed}: {next:?} in {fleet:?}");
            if rng.u8(..20) == 0 {
                break;
            }
        }
    }
}

#[test]
fn noise_moves_nothing_once_it_rests() {
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut fleet = fleet(&[&[300, 100, 100, 100], &[150; 4], &[200; 3]]);
        settle(&mut fleet);
        let steady = fleet.clone();
        for _ in 0..100 {
            let leases = fleet.0.values_mut().flatten();
            for (lease, usual) in leases.zip(steady.0.values().flatten()) {
                lease.share = usual.share * rng.u64(85..=115) / 100;
            }
            assert_eq!(fleet.next_move(MANY), None, "{seed}: {fleet:?}");
            assert_eq!(fleet.next_by_number(MANY), None, "{seed}: {fleet:?}");
        }
    }
}

#[test]
fn who_moved_rests_unless_somebody_is_far_busier() {
    let held = |spread: u64| {
        let mut fleet = fleet(&[&[100; 4], &[100; 2]]);
        for lease in fleet.0.values_mut().flatten() {
            lease.may_move = false;
        }
        if let Some(lease) = fleet.0.get_mut(&0).and_then(|leases| leases.first_mut()) {
            lease.share += spread - 200;
        }
        fleet.next_move(MANY).is_none()
    };
    assert!(held(WIDE_SPREAD - 1));
    assert!(!held(WIDE_SPREAD));
}

#[test]
fn a_weak_worker_gets_less_and_a_lease_weighs_what_it_will() {
    // The second one takes twice as long for the same bytes.
    let mut fleet = fleet(&[&[100; 6], &[]]);
    for key in 11..14 {
        let lease = Weighed {
            key,
            share: 80,
            bytes: 400,
            may_move: true,
        };
        fleet.put(1, lease);
    }
    // 600 and 240: as 100 here are 200 there, one moves and no more.
    assert_eq!(settle(&mut fleet), 1);
    assert_eq!(loads(&fleet), [500, 440]);
}

#[test]
fn where_load_tells_nothing_the_number_counts() {
    for share in [0, 5, 330] {
        let mut fleet = fleet(&[&[share; 3], &[share; 3], &[share; 3], &[]]);
        let mut moves = 0;
        while let Some(next) = fleet.next_by_number(MANY) {
            fleet.make(next);
            moves += 1;
        }
        // Busy or idle: who comes gets its leases at once.
        assert_eq!((moves, counts(&fleet)[3]), (2, 2), "{share}");
    }
    // All have too much, so that it does not show who has most.
    let mut full = fleet(&[&[100; 10], &[250; 4]]);
    while let Some(next) = full.next_by_number(MANY) {
        full.make(next);
    }
    assert_eq!(counts(&full), [9, 5]);
}

#[test]
fn nobody_gets_more_than_its_limit() {
    let fleet = fleet(&[&[300, 300, 300], &[10]]);
    assert_eq!(fleet.next_move(1), None);
    assert_eq!(fleet.next_by_number(1), None);
    assert!(fleet.next_move(2).is_some());
    assert_eq!(fleet.least(1), None);
    assert_eq!(fleet.least(2), Some(1));
}

#[test]
fn who_has_no_room_leaves_it_to_the_next_one() {
    let mut fleet = fleet(&[&[200, 200, 200], &[100, 100], &[10]]);
    fleet.bound(2, 1);
    let next = fleet.next_move(MANY);
    assert_eq!(next.map(|next| (next.from, next.to)), Some((0, 1)));
    assert_eq!(fleet.least(MANY), Some(1));
}

#[test]
fn a_holder_grants_what_makes_it_more_even() {
    assert_eq!(judge(500, 200, 300), Verdict::Granted);
    assert_eq!(judge(500, 200, 301), Verdict::Refused, "the asker's turn");
    assert_eq!(judge(275, 200, 10), Verdict::Granted);
    assert_eq!(judge(274, 200, 10), Verdict::Refused, "as busy");
    assert_eq!(judge(200, 500, 10), Verdict::Refused);
    assert_eq!(judge(149, 0, 10), Verdict::ByNumber, "nothing to do");
    assert_eq!(judge(1000, 971, 10), Verdict::ByNumber, "all too much");
}

/// The asker saw 140 and 130, or 980 and 990: noise does not refuse it.
#[test]
fn what_was_asked_for_by_number_is_judged_so_a_little_beyond_the_bounds() {
    assert_eq!(judge(160, 130, 10), Verdict::ByNumber);
    assert_eq!(judge(980, 960, 10), Verdict::ByNumber);
    assert_eq!(judge(960, 980, 10), Verdict::ByNumber);
    assert_eq!(judge(230, 170, 10), Verdict::Refused);
    assert_eq!(judge(950, 880, 10), Verdict::Refused);
    assert_eq!(
        judge(224, 0, 10),
        Verdict::Granted,
        "by load, where that says so"
    );
}

/// Neither by number nor by load: what goes by one would come back by the other.
#[test]
fn near_the_top_nothing_moves() {
    for poor in [FULL - 110, FULL - 50, FULL] {
        let fleet = fleet(&[&[250; 4], &[poor]]);
        assert_eq!(fleet.next_move(MANY), None, "{poor}");
        assert_eq!(fleet.next_by_number(MANY), None, "{poor}");
    }
}

#[test]
fn who_moved_rests_where_the_number_counts_unless_somebody_has_far_less() {
    let moves = |receiver: &[u64]| {
        let mut fleet = fleet(&[&[5; 8], receiver]);
        for lease in fleet.0.values_mut().flatten() {
            lease.may_move = false;
        }
        let mut moves = 0;
        while let Some(next) = fleet.next_by_number(MANY) {
            fleet.make(next);
            moves += 1;
        }
        moves
    };
    // Of eight, until the other has nearly half as many.
    assert_eq!(moves(&[]), 3);
    assert_eq!(moves(&[5; 3]), 1);
    assert_eq!(moves(&[5; 4]), 0);
}
