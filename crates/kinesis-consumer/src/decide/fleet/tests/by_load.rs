//! Leases by load: who asks for what, and when all count.

use super::*;
use crate::decide::assignment::grants;

/// The table, each lease with what it takes of its holder's time. `None`: its holder says nothing.
fn weighed(table: &str, shares: &[Option<u16>]) -> Vec<Lease> {
    let mut leases = leases(table);
    for (lease, share) in leases.iter_mut().zip(shares) {
        lease.share_permille = *share;
    }
    leases
}

#[rstest]
#[case::all_say("me a b -", &[Some(1), Some(0), Some(9), None], true)]
#[case::nobody_holds_anything("- -", &[None, Some(9)], true)]
#[case::java("me a J", &[Some(1), Some(1), Some(1)], false)]
#[case::finished_ones_do_not_count("me a J!", &[Some(1), Some(1), None], true)]
#[case::who_counts("me a a", &[Some(1), Some(1), None], false)]
#[case::this_one("me me a", &[Some(1), None, Some(1)], false)]
fn while_one_counts_all_count(
    #[case] table: &str,
    #[case] shares: &[Option<u16>],
    #[case] want: bool,
) {
    let leases = weighed(table, shares);
    let by_load = seen_of(FAILOVER, leases, |sight| sight.loads().is_some());
    assert_eq!(by_load, want);
}

#[rstest]
#[case::the_neighbours_of_a_hot_one_go("me a me me a a", &[700, 50, 90, 90, 50, 50], &["s2", "s3"])]
#[case::this_worker_asks_by_itself("me a a a", &[50, 700, 90, 90], &[])]
#[case::nothing_where_it_rests("me a me a a", &[400, 200, 50, 150, 150], &[])]
#[case::what_is_asked_for_is_where_it_will_be("me me me>a me>a a", &[9; 5], &[])]
fn the_warden_tells_who_is_to_ask(
    #[case] table: &str,
    #[case] shares: &[u16],
    #[case] want: &[&str],
) {
    let shares: Vec<_> = shares.iter().copied().map(Some).collect();
    let told = seen_of(FAILOVER, weighed(table, &shares), |sight| {
        let loads = sight.loads().expect("by load");
        sight.even_out_by_load(loads)
    });
    let told: Vec<_> = told.get("a").into_iter().flatten().cloned().collect();
    assert_eq!(told, keys(want));
}

/// Any one does.
#[test]
fn the_number_counts_where_nobody_does_much() {
    let told = seen_of(FAILOVER, weighed("me me me me a", &[Some(9); 5]), |sight| {
        let loads = sight.loads().expect("by load");
        sight.even_out_by_load(loads)
    });
    assert_eq!(told["a"].len(), 1);
}

#[test]
fn who_joins_asks_for_one_and_then_for_its_part() {
    let asked = |table: &str, shares: &[u16]| {
        let shares: Vec<_> = shares.iter().copied().map(Some).collect();
        seen_of(FAILOVER, weighed(table, &shares), |sight| {
            let loads = sight.loads().expect("by load");
            sight.asks_by_load(loads, 9, 0).len()
        })
    };
    assert_eq!(asked("a a a a a a", &[100; 6]), 1);
    assert_eq!(asked("a>me a a a a a", &[100; 6]), 0, "that one is coming");
    assert_eq!(asked("a a a a a me", &[100; 6]), 1, "500 and 100: 400, 200");
    assert_eq!(asked("a a a a a me", &[9; 6]), 2);
    assert_eq!(asked("a a a a - me", &[9; 6]), 0, "first what is free");
}

/// The warden does not see who holds nothing.
#[test]
fn who_joins_gets_a_lease_of_who_is_a_little_busy() {
    for share in [25, 33, 41] {
        let leases = weighed("a a a a a a", &[Some(share); 6]);
        let asked = seen_of(FAILOVER, leases, |sight| {
            let loads = sight.loads().expect("by load");
            sight.asks_by_load(loads, 9, 0).len()
        });
        assert_eq!(asked, 1, "{share} each");
    }
}

#[test]
fn what_is_coming_needs_room_as_well() {
    let asked = |max_leases, planned| {
        let leases = weighed("a>me a a a a a me", &[Some(9); 7]);
        seen_of(FAILOVER, leases, |sight| {
            let loads = sight.loads().expect("by load");
            sight.asks_by_load(loads, max_leases, planned).len()
        })
    };
    assert_eq!(asked(9, 0), 1);
    assert_eq!(asked(3, 0), 1);
    assert_eq!(asked(3, 1), 0, "asked for just now");
    assert_eq!(asked(2, 0), 0, "one held, one coming");
}

/// `c` may have no room: the warden cannot know.
#[test]
fn nobody_waits_for_who_takes_nothing() {
    let shares = [300, 300, 100, 20, 20, 10, 10];
    let leases = weighed("me me me a a a c", &shares.map(Some));
    let told = seen_of(FAILOVER, leases, |sight| {
        let loads = sight.loads().expect("by load");
        sight.even_out_by_load(loads)
    });
    let count = |worker: &str| told.get(worker).map_or(0, BTreeSet::len);
    assert!(count("a") > 0 && count("c") > 0, "{told:?}");
}

/// Who has least to do gets the heaviest.
#[test]
fn free_leases_go_to_who_has_least_to_do() {
    let shares = [Some(300), Some(400), Some(20), Some(500), Some(30)];
    let free = keys(&["s3", "s4"]);
    let told = seen_of(FAILOVER, weighed("me a b - -", &shares), |sight| {
        sight.share_out(&free)
    });
    let want = [("b", "s3"), ("a", "s4")];
    let want = want.map(|(worker, key)| (worker.to_owned(), BTreeSet::from([LeaseKey::from(key)])));
    assert_eq!(told, BTreeMap::from(want));
}

/// `p` and `q` ask, some requests by load and some by number.
fn asked(rng: &mut fastrand::Rng) -> Vec<Lease> {
    // Who holds nothing has to show first that it lives.
    let workers = ["a", "b", "p", "q"];
    let table = (0..12).map(|index| match workers.get(index) {
        Some(worker) => worker,
        None => workers[rng.usize(..4)],
    });
    let table: Vec<_> = table.collect();
    let shares: Vec<_> = (0..12).map(|_| Some(rng.u16(..250))).collect();
    let mut leases = weighed(&table.join(" "), &shares);
    leases.sort_by(|one, other| one.key.cmp(&other.key));
    let of = |worker: &str, leases: &[Lease]| {
        let theirs = leases.iter().filter(|it| it.holder() == Some(worker));
        theirs.fold((0, 0), |(count, load), lease| {
            (count + 1, load + lease.share())
        })
    };
    let has = ["p", "q"].map(|worker| (worker, of(worker, &leases)));
    for lease in &mut leases {
        let (asker, (count, load)) = has[rng.usize(..2)];
        if matches!(lease.holder(), Some("a" | "b")) && rng.bool() {
            lease.handover_to = Some(asker.to_owned());
            lease.handover_has = Some(count);
            lease.handover_load = rng.bool().then_some(load);
        }
    }
    // One that deals by number.
    if rng.u8(..4) == 0 {
        leases[rng.usize(..12)].share_permille = None;
    }
    leases
}

#[test]
fn all_see_alike_which_requests_are_granted() {
    let (mut granted, mut refused) = (0, 0);
    for seed in 0..300 {
        let leases = asked(&mut fastrand::Rng::with_seed(seed));
        let now = Instant::now();
        let mut observations = Observations::new(FAILOVER);
        observations.observe(&leases, now);
        let promises = |me: &str| {
            let ours = leases.iter().filter(|lease| lease.holder() == Some(me));
            let held = ours.map(|lease| lease.key.clone()).collect();
            let sight = Sight::new(&leases, &observations, me, &held, now);
            let promises = sight.promises().into_iter();
            let promises = promises.map(|(key, to)| (key.clone(), to.to_owned()));
            let promises: BTreeMap<_, _> = promises.collect();
            // And so do the holders.
            let of_ours = promises.iter().filter(|(key, _)| held.contains(*key));
            let mut grants = grants(&leases, &observations, me, &held, &BTreeMap::new(), now);
            grants.sort();
            let want: Vec<_> = of_ours.map(|(key, to)| (key.clone(), to.clone())).collect();
            assert_eq!(grants, want, "{seed}: {me} of {leases:?}");
            promises
        };
        let seen = promises("a");
        for me in ["b", "p", "q", "somebody"] {
            assert_eq!(promises(me), seen, "{seed}: {me} of {leases:?}");
        }
        granted += seen.len();
        refused += leases.iter().filter(|it| it.handover_to.is_some()).count() - seen.len();
    }
    assert!(granted > 100 && refused > 100, "{granted}, {refused}");
}

#[test]
fn requests_by_load_are_taken_back_or_corrected_by_load() {
    let judged = |table: &str, shares: &[u16], load: u64| {
        let shares: Vec<_> = shares.iter().copied().map(Some).collect();
        let mut leases = weighed(table, &shares);
        let asked = leases.iter_mut().filter(|it| it.handover_to.is_some());
        for (index, lease) in asked.enumerate() {
            lease.handover_has = Some(1 + index as u64);
            lease.handover_load = Some(400);
        }
        seen_of(FAILOVER, leases, |sight| {
            let has = Has {
                leases: 1,
                load: Some(load),
            };
            let requests = sight.own_requests(has).into_iter();
            let judged = requests.map(|(lease, then)| {
                let is_overstated = then.is_some_and(|then| then.is_overstated(lease));
                (then.map(|then| (then.leases, then.load)), is_overstated)
            });
            judged.collect::<Vec<_>>()
        })
    };
    // By number all three would be granted.
    let asked = "me a>me a>me a>me a a a a";
    let shares = [400, 200, 200, 200, 50, 50, 50, 50];
    assert_eq!(
        judged(asked, &shares, 400),
        [(Some((1, Some(400))), false), (None, false), (None, false)]
    );
    // It lost what kept it busy: two are granted, and it is to say so.
    assert_eq!(
        judged(asked, &shares, 0),
        [
            (Some((1, Some(0))), true),
            (Some((2, Some(200))), true),
            (None, false)
        ]
    );
}

/// With a hot shard one is enough, and nobody goes on looking for more.
#[test]
fn who_is_busy_with_few_leases_gains_none() {
    let gains = |shares: &[u16]| {
        let shares: Vec<_> = shares.iter().copied().map(Some).collect();
        seen_of(FAILOVER, weighed("me a a a a a", &shares), |sight| {
            assert!(sight.is_short(usize::MAX), "by number");
            let loads = sight.loads().expect("by load");
            sight.gains(loads)
        })
    };
    assert!(!gains(&[700, 100, 100, 100, 100, 100]));
    assert!(gains(&[9; 6]));
    assert!(gains(&[0, 150, 150, 150, 150, 150]));
}
