//! Decisions while not all is known: shards without a verdict, old verdicts, owners that may be
//! dead.

use right_sizing::{
    Certainty, Observation, Reason, Settings, ShardObservation, State, Step, Unknown,
};

const START_MS: u64 = 1_700_000_000_000;
const MAX_STALE_MS: u64 = 300_000;

/// Twelve shards, the first of `pods` pods dealt in turn; each read to within a second.
fn observation(after_s: u64, pods: usize) -> Observation {
    let at_ms = START_MS + after_s * 1000;
    let shard = |number: usize| ShardObservation {
        id: format!("shardId-{number:012}"),
        owner: (pods > 0).then(|| format!("pod-{}", number % pods.max(1))),
        checkpoint: after_s.to_string(),
        unread_since_ms: Some(at_ms - 500),
        ..ShardObservation::default()
    };
    Observation {
        at_ms,
        shards: (0..12).map(shard).collect(),
        ..Observation::default()
    }
}

fn undecided(mut observation: Observation, from: usize) -> Observation {
    for shard in &mut observation.shards[from..] {
        shard.undecided = true;
        shard.unread_since_ms = None;
    }
    observation
}

#[test]
fn one_unread_shard_is_enough_and_none_decided_or_most_old_is_not() {
    let caught_up = |mut observation: Observation| {
        for shard in &mut observation.shards {
            shard.unread_since_ms = None;
        }
        observation
    };
    let old = |shards: usize, age_ms: u64| {
        let mut observation = observation(600, 3);
        for shard in &mut observation.shards[..shards] {
            shard.as_of_ms = Some(observation.at_ms - age_ms);
        }
        observation
    };
    let unknown = Certainty::Unknown;
    let table = [
        (observation(0, 3), Certainty::Whole),
        (caught_up(observation(0, 3)), Certainty::Whole),
        (Observation::default(), unknown(Unknown::NoShards)),
        (
            undecided(observation(0, 0), 1),
            Certainty::LowerBound { undecided: 11 },
        ),
        (
            undecided(observation(0, 0), 0),
            unknown(Unknown::NoneDecided { shards: 12 }),
        ),
        (
            undecided(caught_up(observation(0, 3)), 11),
            unknown(Unknown::NothingUnread {
                undecided: 1,
                shards: 12,
            }),
        ),
        (old(6, MAX_STALE_MS + 1), Certainty::Whole),
        (old(12, MAX_STALE_MS), Certainty::Whole),
        (
            old(7, MAX_STALE_MS + 1),
            unknown(Unknown::Stale {
                stale: 7,
                decided: 12,
            }),
        ),
        (
            undecided(old(2, MAX_STALE_MS + 1), 3),
            unknown(Unknown::Stale {
                stale: 2,
                decided: 3,
            }),
        ),
    ];
    for (observation, certainty) in table {
        assert_eq!(observation.certainty(MAX_STALE_MS), certainty);
    }
}

#[test]
fn without_shards_nothing_is_decided_and_nothing_forgotten() {
    let settings = Settings::new(30_000, 2);
    let none = |after_s| Observation {
        shards: Vec::new(),
        ..observation(after_s, 0)
    };
    let mut state = State::default();
    for (seen, replicas, unknown) in [
        (none(0), 1, Some(Unknown::NoShards)),
        (observation(15, 4), 4, None),
        (none(30), 4, Some(Unknown::NoShards)),
        (none(45), 4, Some(Unknown::NoShards)),
        (observation(60, 4), 4, None),
    ] {
        let decision = state.decide(&seen, &settings);
        assert_eq!((decision.replicas, decision.active), (replicas, true));
        assert_eq!(decision.value, f64::from(2 * replicas));
        assert_eq!(decision.unknown, unknown);
        // It is no reshard either.
        assert!(decision.step == Step::Hold || seen.at_ms == START_MS + 15_000);
        if unknown.is_some() {
            let pods = if replicas == 1 { "1 pod" } else { "4 pods" };
            assert_eq!(
                decision.reason.to_string(),
                format!("undecided: no readable shard is known; still {pods} wished")
            );
        }
    }
}

#[test]
fn what_is_not_known_is_not_idle() {
    let settings = Settings::new(30_000, 1);
    let all_undecided = |after_s| undecided(observation(after_s, 3), 0);
    let rests = |after_s| {
        let mut seen = observation(after_s, 0);
        for shard in &mut seen.shards {
            (shard.unread_since_ms, shard.checkpoint) = (None, String::new());
        }
        seen
    };
    let mut state = State::default();
    let first = state.decide(&all_undecided(0), &settings);
    assert_eq!((first.replicas, first.active), (3, true));
    assert_eq!(first.unknown, Some(Unknown::NoneDecided { shards: 12 }));
    // What rested does so until something is known.
    for after_s in [15, 30, 45] {
        assert!(!state.decide(&rests(after_s), &settings).active);
    }
    let seen = undecided(rests(60), 6);
    let decision = state.decide(&seen, &settings);
    assert!(!decision.active && decision.unknown.is_some());
}

#[test]
fn while_shards_are_undecided_what_runs_stays() {
    // Pods, pods wished before, shardCount → replicas.
    let table = [
        (0, None, 1, 1),
        (3, None, 1, 3),
        (3, Some(5), 1, 5),
        (8, Some(4), 1, 8),
        (8, None, 2, 6),
    ];
    for (pods, before, shard_count, replicas) in table {
        let settings = Settings::new(30_000, shard_count);
        let mut state = State::default();
        if let Some(before) = before {
            state.decide(&observation(0, before), &settings);
        }
        for refresh in 1..100 {
            let decision = state.decide(&undecided(observation(refresh * 15, pods), 1), &settings);
            assert_eq!(
                (decision.replicas, decision.active, decision.undecided),
                (replicas, true, 11)
            );
            let sentence = decision.reason.to_string();
            assert!(
                sentence.starts_with("11 of 12 shards are not known yet"),
                "{sentence}"
            );
            assert_eq!(decision.value, f64::from(replicas * shard_count));
        }
    }
}

#[test]
fn a_verdict_that_comes_is_no_checkpoint_that_moves() {
    let settings = Settings::new(30_000, 1);
    let mut state = State::default();
    let mut seen = undecided(observation(0, 3), 1);
    for shard in &mut seen.shards[1..] {
        shard.checkpoint = String::new();
    }
    state.decide(&seen, &settings);
    // What has been unread for an hour is late, and not slow.
    let mut seen = observation(15, 3);
    for shard in &mut seen.shards {
        shard.unread_since_ms = Some(START_MS - 3_600_000);
    }
    let decision = state.decide(&seen, &settings);
    assert_eq!(decision.undecided, 0);
    assert!(
        matches!(decision.reason, Reason::LateUnmeasured { .. }),
        "{}",
        decision.reason
    );
}

#[test]
fn what_moved_while_nobody_looked_did_not_stand() {
    let settings = Settings::new(30_000, 1);
    let mut state = State::default();
    for after_s in (0..1800).step_by(15) {
        let mut seen = observation(after_s, 3);
        if (600..1200).contains(&after_s) {
            seen = undecided(seen, 6);
        }
        let decision = state.decide(&seen, &settings);
        assert_eq!(decision.outage, None, "{}", decision.reason);
        assert_eq!(decision.checkpoint_interval_ms, 0);
    }
}

#[test]
fn owners_that_were_dead_at_the_start_are_dismissed() {
    let settings = Settings {
        activation_lag_threshold_ms: 20_000,
        ..Settings::new(30_000, 1)
    };
    // Of four owners so many renew their leases; the others turn out to be dead.
    for alive in 0..=4 {
        let mut state = State::default();
        let mut first = observation(6, 4);
        for (number, shard) in first.shards.iter_mut().enumerate() {
            shard.unconfirmed = number % 4 >= alive;
        }
        let decision = state.decide(&first, &settings);
        assert_eq!((decision.step, decision.replicas), (Step::First, 4));
        // Whoever may be dead is no reason to ignore the activation threshold.
        assert_eq!(decision.active, alive > 0);
        let mut after = |seconds| {
            let mut later = observation(seconds, 4);
            for (number, shard) in later.shards.iter_mut().enumerate() {
                if number % 4 >= alive {
                    shard.owner = None;
                }
            }
            state.decide(&later, &settings)
        };
        // They may renew seldom, or others may come.
        assert_eq!(after(60).replicas, 4);
        let decision = after(310);
        let replicas = (alive as u32).max(1);
        assert_eq!(decision.replicas, replicas, "{}", decision.reason);
        if alive == 2 {
            assert_eq!(
                decision.reason.to_string(),
                "2 owners of leases did not renew them: so 2 pods"
            );
        }
    }
}

#[test]
fn owners_that_die_later_are_no_mistake() {
    let settings = Settings::new(30_000, 1);
    let mut state = State::default();
    state.decide(&observation(6, 4), &settings);
    let mut later = observation(60, 4);
    for shard in later.shards.iter_mut().skip(1).step_by(4) {
        shard.owner = None;
    }
    assert_eq!(state.decide(&later, &settings).replicas, 4);
}
