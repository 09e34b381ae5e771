//! Plans and grants by tables.

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::model::sequence::Checkpoint;

const FAILOVER: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits {
    max_leases: usize::MAX,
    max_steals: 1,
};

/// `"a a j -"`: leases 0 to 3, held by native `a` (lower case), KCL 2.x `J` (upper case), nobody
/// (`-`); `a>b`: `b` asks `a`; `a!`: finished.
fn leases(table: &str) -> Vec<Lease> {
    let lease = |(index, text): (usize, &str)| {
        let mut lease = Lease::new(format!("s{index}"), Checkpoint::TrimHorizon);
        if text.ends_with('!') {
            lease.checkpoint = Checkpoint::ShardEnd;
        }
        let text = text.trim_end_matches('!');
        let (holder, to) = text
            .split_once('>')
            .map_or((text, None), |(holder, to)| (holder, Some(to.to_owned())));
        lease.owner = (holder != "-").then(|| holder.to_owned());
        let is_native = lease
            .owner
            .as_deref()
            .is_some_and(|owner| owner.chars().all(char::is_lowercase));
        lease.native_counter = is_native.then_some(0);
        lease.native_process = is_native.then(|| "process".to_owned());
        lease.handover_to = to;
        lease
    };
    table.split_whitespace().enumerate().map(lease).collect()
}

fn held_by(leases: &[Lease], worker: &str) -> BTreeSet<LeaseKey> {
    leases
        .iter()
        .filter(|lease| lease.holder() == Some(worker))
        .map(|lease| lease.key.clone())
        .collect()
}

/// `(takes, asks, steals)`.
fn count(actions: &[Action]) -> (usize, usize, usize) {
    let of = |wanted: fn(&Action) -> bool| actions.iter().filter(|action| wanted(action)).count();
    (
        of(|action| matches!(action, Action::Take(_))),
        of(|action| matches!(action, Action::Ask(_))),
        of(|action| matches!(action, Action::Steal(_))),
    )
}

#[rstest]
#[case::nothing_there("", (0, 0, 0))]
#[case::a_lone_worker_takes_all("- - - -", (4, 0, 0))]
#[case::finished_ones_are_left_alone("-! - a! j!", (1, 0, 0))]
#[case::only_our_share_of_what_is_free("a a - -", (2, 0, 0))]
#[case::nothing_beyond_our_share("me me - a a", (1, 0, 0))]
#[case::one_each_when_workers_outnumber_leases("a b -", (1, 0, 0))]
#[case::all_we_need_at_once("a a a a a a a a", (0, 4, 0))]
#[case::spread_over_the_richest("a a a a b b b b", (0, 2, 0))]
#[case::one_more_is_even_enough("a a me", (0, 0, 0))]
#[case::standing_requests_count("a>me a>me a a", (0, 0, 0))]
#[case::requests_of_others_count("a>b a>b a a", (0, 1, 0))]
#[case::requests_that_will_be_refused_do_not("a>b a a b b me", (0, 1, 0))]
#[case::nor_does_a_refused_one_of_ours("a>me a a b b me me", (0, 0, 0))]
#[case::finished_ones_do_not_count("a a! a! a!", (0, 0, 0))]
#[case::one_by_one_from_kcl_2("J J J J", (0, 0, 1))]
#[case::the_richest_first("J J J J a a a", (0, 1, 1))]
#[case::rather_ours_than_theirs("J J J a a a me", (0, 1, 0))]
#[case::a_request_left_standing_by_a_java_take("J>me J>me J J", (0, 0, 1))]
fn plans(#[case] table: &str, #[case] want: (usize, usize, usize)) {
    let leases = leases(table);
    let now = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, now);
    let actions = plan(
        &leases,
        &observations,
        "me",
        &held_by(&leases, "me"),
        LIMITS,
        now,
    );
    assert_eq!(count(&actions), want, "{actions:?}");
    let ours = held_by(&leases, "me");
    let wanted = actions.iter().map(Action::key);
    assert!(
        wanted.clone().all(|key| !ours.contains(key)),
        "never from ourselves: {actions:?}"
    );
    assert_eq!(
        wanted.clone().collect::<BTreeSet<_>>().len(),
        actions.len(),
        "each once: {actions:?}"
    );
}

#[test]
fn a_holder_whose_counter_stands_still_loses_its_leases() {
    let mut leases = leases("a a b b");
    let start = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, start);
    let me = BTreeSet::new();
    let expiry = observations
        .next_expiry("me", start)
        .expect("leases of others");
    assert!(expiry > start + FAILOVER && expiry <= start + FAILOVER + Duration::from_millis(1));

    leases[2..].iter_mut().for_each(|lease| lease.counter += 1);
    observations.observe(&leases, start + FAILOVER / 2);
    assert_eq!(
        count(&plan(
            &leases,
            &observations,
            "me",
            &me,
            LIMITS,
            start + FAILOVER
        ))
        .0,
        0,
        "not yet"
    );
    observations.observe(&leases, expiry);
    let actions = plan(&leases, &observations, "me", &me, LIMITS, expiry);
    assert_eq!(count(&actions), (2, 0, 0));
    assert!(
        actions.contains(&Action::Take("s0".into()))
            && actions.contains(&Action::Take("s1".into()))
    );
}

#[test]
fn a_lease_in_our_name_that_we_do_not_hold_is_ours_at_once() {
    let leases = leases("me me me a");
    let now = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, now);
    let actions = plan(&leases, &observations, "me", &BTreeSet::new(), LIMITS, now);
    assert_eq!(count(&actions), (3, 0, 0));
    let bounded = plan(
        &leases,
        &observations,
        "me",
        &BTreeSet::new(),
        Limits {
            max_leases: 2,
            ..LIMITS
        },
        now,
    );
    assert_eq!(count(&bounded), (2, 0, 0));
}

#[test]
fn what_nobody_takes_for_long_is_taken_beyond_the_share() {
    let leases = leases("me me a -");
    let start = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, start);
    let held = held_by(&leases, "me");
    assert_eq!(
        count(&plan(&leases, &observations, "me", &held, LIMITS, start)).0,
        0
    );
    assert!(
        observations
            .next_expiry("me", start)
            .is_some_and(|at| at <= start + FAILOVER + Duration::from_millis(1))
    );
    let mut later = leases.clone();
    later[2].counter += 1;
    let now = start + FAILOVER + Duration::from_millis(1);
    observations.observe(&later, now);
    assert_eq!(
        plan(&later, &observations, "me", &held, LIMITS, now),
        [Action::Take("s3".into())]
    );
    assert_eq!(
        plan(
            &later,
            &observations,
            "me",
            &held,
            Limits {
                max_leases: 2,
                ..LIMITS
            },
            now
        ),
        []
    );
}

#[test]
fn no_lease_is_stolen_twice_within_five_minutes() {
    let leases = leases("J J");
    let start = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, start);
    let stolen: Vec<_> = ["s0", "s1"]
        .map(|key| observations.stole(&key.into(), start))
        .into();
    assert_eq!(stolen.len(), 2);
    let at = |seconds| start + Duration::from_secs(seconds);
    let moving = |observations: &mut Observations, seconds| {
        let mut leases = leases.clone();
        leases.iter_mut().for_each(|lease| lease.counter = seconds);
        observations.observe(&leases, at(seconds));
        count(&plan(
            &leases,
            observations,
            "me",
            &BTreeSet::new(),
            LIMITS,
            at(seconds),
        ))
    };
    assert_eq!(moving(&mut observations, 299), (0, 0, 0));
    assert_eq!(moving(&mut observations, 300), (0, 0, 1));
}

#[test]
fn kcl_2_loses_one_lease_in_two_failover_times() {
    let leases = leases("J J J J J J");
    let start = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    let mut plans = |millis: u64, limits: Limits| {
        let (mut leases, now) = (leases.clone(), start + Duration::from_millis(millis));
        leases.iter_mut().for_each(|lease| lease.counter = millis);
        observations.observe(&leases, now);
        let actions = plan(&leases, &observations, "me", &BTreeSet::new(), limits, now);
        for action in &actions {
            if let Action::Steal(key) = action {
                observations.stole(key, now);
            }
        }
        count(&actions)
    };
    assert_eq!(plans(0, LIMITS), (0, 0, 1));
    assert_eq!(
        plans(1, LIMITS),
        (0, 0, 0),
        "scans are more frequent than rounds"
    );
    assert_eq!(plans(19_999, LIMITS), (0, 0, 0));
    assert_eq!(plans(20_000, LIMITS), (0, 0, 1));
    let two = Limits {
        max_steals: 2,
        ..LIMITS
    };
    assert_eq!(plans(30_000, two), (0, 0, 1));
    assert_eq!(plans(30_000, two), (0, 0, 0));
}

#[test]
fn a_request_that_stood_too_long_no_longer_counts() {
    let start = Instant::now();
    let after = start + Duration::from_millis(60_001);
    let mut leases = leases("a>me a>me");
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, start);
    let plans = |leases: &[Lease], observations: &Observations, worker: &str, now| {
        count(&plan(
            leases,
            observations,
            worker,
            &BTreeSet::new(),
            LIMITS,
            now,
        ))
    };
    assert_eq!(plans(&leases, &observations, "me", start), (0, 0, 0));
    assert_eq!(
        plans(&leases, &observations, "other", start),
        (0, 0, 0),
        "they are about to leave"
    );
    leases.iter_mut().for_each(|lease| {
        lease.counter += 1;
        lease.native_counter = Some(1);
    });
    observations.observe(&leases, after);
    assert_eq!(plans(&leases, &observations, "me", after), (0, 1, 0));
    assert_eq!(plans(&leases, &observations, "other", after), (0, 1, 0));
    let held = held_by(&leases, "a");
    assert_eq!(
        grants(&leases, &observations, "a", &held, &BTreeMap::new(), after),
        [],
        "the asker is gone"
    );
}

/// Somebody's name is in a lease of ours. Whoever that is has no lease, so nobody sees whether it
/// lives: who lives asks again.
#[test]
fn a_worker_that_was_never_seen_gets_a_lease_when_it_asks_again() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut leases = leases("me>ghost me>b me me me");
    let mut observations = Observations::new(FAILOVER);
    let held = held_by(&leases, "me");
    let none = BTreeMap::new();
    let granted = |leases: &[Lease], observations: &Observations, now| {
        grants(leases, observations, "me", &held, &none, now)
    };
    let challenged = |leases: &[Lease], observations: &Observations, now| -> Vec<_> {
        challenges(leases, observations, "me", &held, &none, now)
            .into_iter()
            .map(|lease| lease.key.clone())
            .collect()
    };
    observations.observe(&leases, start);
    assert_eq!(granted(&leases, &observations, start), []);
    let keys = challenged(&leases, &observations, start);
    assert_eq!(keys, ["s0".into(), "s1".into()]);
    for key in &keys {
        let lease = leases.iter_mut().find(|lease| lease.key == *key);
        let asker = lease.unwrap().handover_to.take().unwrap();
        observations.challenged(&asker, key, start);
    }
    assert!(observations.awaits_answers(start));
    // One of them asks for another lease.
    leases[4].handover_to = Some("b".to_owned());
    observations.observe(&leases, after(2));
    assert_eq!(challenged(&leases, &observations, after(2)), []);
    let lease = ("s4".into(), "b".to_owned());
    assert_eq!(granted(&leases, &observations, after(2)), [lease]);
}

#[test]
fn a_java_worker_by_the_name_of_one_of_ours_is_told_by_its_writes() {
    let mut leases = leases("a a");
    assert!(leases.iter().all(Lease::is_native));
    leases.iter_mut().for_each(|lease| lease.counter += 1);
    assert!(!leases.iter().any(Lease::is_native));
    let now = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, now);
    assert_eq!(
        count(&plan(
            &leases,
            &observations,
            "me",
            &BTreeSet::new(),
            LIMITS,
            now
        )),
        (0, 0, 1)
    );
}

#[rstest]
#[case::one_first_to_who_has_none("me>b me>b me me", 1)]
#[case::until_even("me>b me>b me>b me me b", 2)]
#[case::not_the_last_one("me>b", 0)]
#[case::not_to_who_has_as_many("me>b me b", 0)]
#[case::to_several("me>b me>b me>c me>c me>c me me me b c", 4)]
#[case::one_first_to_each("me>b me>b me>c me>c me>c me", 2)]
#[case::not_to_ourselves("me>me me me", 0)]
#[case::finished_ones_do_not_count("me>b me! me!", 0)]
fn grants_what_makes_it_more_even(#[case] table: &str, #[case] want: usize) {
    let leases = leases(table);
    let now = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    // The requests came while we looked on.
    let mut before = leases.clone();
    before.iter_mut().for_each(|lease| lease.handover_to = None);
    observations.observe(&before, now);
    observations.observe(&leases, now);
    let held = held_by(&leases, "me");
    let mut leaving = BTreeMap::new();
    // All at once, or one after the other: as many either way.
    assert_eq!(
        grants(&leases, &observations, "me", &held, &leaving, now).len(),
        want
    );
    while let Some((key, to)) = grants(&leases, &observations, "me", &held, &leaving, now)
        .into_iter()
        .next()
    {
        leaving.insert(key, to);
    }
    assert_eq!(leaving.len(), want);
}

#[test]
fn nothing_goes_to_a_worker_that_is_gone() {
    let leases = leases("me>b me>b me>b me>c me me me b c");
    let start = Instant::now();
    let mut observations = Observations::new(FAILOVER);
    observations.observe(&leases, start);
    let held = held_by(&leases, "me");
    let mut now = start + Duration::from_secs(11);
    let mut later = leases;
    // All but b renew.
    for lease in later
        .iter_mut()
        .filter(|lease| lease.owner.as_deref() != Some("b"))
    {
        lease.counter += 1;
        lease.native_counter = Some(lease.counter);
    }
    let all_to = |to: &str| {
        let to_b = |lease: &&Lease| lease.handover_to.as_deref() == Some(to);
        later
            .iter()
            .filter(to_b)
            .map(|lease| (lease.key.clone(), to.to_owned()))
            .collect()
    };
    let (to_b, to_c): (BTreeMap<_, _>, BTreeMap<_, _>) = (all_to("b"), all_to("c"));
    assert_eq!(void(&later, &observations, &to_b, start), []);
    observations.observe(&later, now);
    let granted = grants(&later, &observations, "me", &held, &BTreeMap::new(), now);
    assert!(
        !granted.is_empty() && granted.iter().all(|(_, to)| to == "c"),
        "{granted:?}"
    );
    assert_eq!(void(&later, &observations, &to_b, now).len(), 3);
    assert_eq!(void(&later, &observations, &to_c, now), []);
    // One that was handed a lease and did not take it yet has shown no life.
    now += Duration::from_secs(1);
    for lease in later
        .iter_mut()
        .filter(|lease| lease.owner.as_deref() == Some("c"))
    {
        lease.native_process = None;
    }
    observations.observe(&later, now);
    assert_eq!(
        grants(&later, &observations, "me", &held, &BTreeMap::new(), now),
        []
    );
    // Withdrawn.
    later.iter_mut().for_each(|lease| lease.handover_to = None);
    assert_eq!(void(&later, &observations, &to_c, now).len(), 1);
}
