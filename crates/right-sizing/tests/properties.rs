//! What holds whatever is seen.

use proptest::{collection::vec, option, prelude::*};
use right_sizing::{Certainty, Observation, Settings, ShardObservation, State};

const START_MS: u64 = 1_700_000_000_000;

fn shard() -> impl Strategy<Value = ShardObservation> {
    let age = prop_oneof![0..2_000u64, 0..90_000u64, 0..90_000_000u64];
    (
        0..14u32,
        option::weighted(0.9, 0..5u32),
        0..4u32,
        option::weighted(0.9, age),
        option::weighted(0.1, 0..40_000u64),
        option::weighted(0.3, prop_oneof![0.0..1.0f64, Just(f64::NAN), Just(7.0)]),
        prop::bool::weighted(0.05),
        option::weighted(0.1, 0..4u32),
    )
        .prop_map(
            |(id, owner, checkpoint, age, old, busy, drained, odd)| ShardObservation {
                id: format!("shardId-{id:012}"),
                owner: owner.map(|owner| format!("pod-{owner}")),
                checkpoint: checkpoint.to_string(),
                // Ages of another clock too: relative to the start, so that some lie ahead.
                unread_since_ms: age.map(|age| START_MS + 100_000 - age),
                as_of_ms: old.map(|old| START_MS + old),
                busy,
                drained,
                undecided: odd == Some(0),
                unconfirmed: odd == Some(1),
                malformed: odd == Some(2) && owner.is_none(),
            },
        )
}

fn hour() -> impl Strategy<Value = Vec<Observation>> {
    vec(
        (
            0..120_000u64,
            option::weighted(0.3, 0..80_000u64),
            vec(shard(), 0..14),
        ),
        1..60,
    )
    .prop_map(|looks| {
        let mut at_ms = START_MS;
        looks
            .into_iter()
            .map(|(later, clock, mut shards)| {
                at_ms += later;
                shards.sort_by(|a, b| a.id.cmp(&b.id));
                shards.dedup_by(|a, b| a.id == b.id);
                Observation {
                    at_ms,
                    aws_ms: clock.map(|clock| at_ms - 40_000 + clock),
                    rhythm_ms: clock,
                    shards,
                }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn replicas_stay_within_what_shards_allow(hour in hour(), threshold in 1..200_000u64, shard_count in 1..5u32) {
        let settings = Settings::new(threshold, shard_count);
        let mut state = State::default();
        for seen in &hour {
            let decision = state.decide(seen, &settings);
            let most = (seen.shards.len() as u32).div_ceil(shard_count);
            prop_assert!(decision.replicas <= most || seen.shards.is_empty());
            prop_assert!(decision.replicas >= 1);
            prop_assert_eq!(decision.unknown.is_some(), matches!(seen.certainty(u64::MAX), Certainty::Unknown(_)));
            prop_assert_eq!(decision.value, f64::from(decision.replicas * shard_count));
            let decided = seen.shards.iter().filter(|shard| !shard.undecided);
            let unread = decided.clone().any(|shard| shard.unread_since_ms.is_some() || shard.drained);
            prop_assert_eq!(decision.undecided as usize, seen.shards.len() - decided.count());
            prop_assert!(decision.active || !unread);
            prop_assert!(!decision.reason.to_string().is_empty());
        }
    }

    #[test]
    fn a_state_that_went_through_json_decides_alike(hour in hour(), threshold in 1..200_000u64, half in 0..60usize) {
        let settings = Settings::new(threshold, 1);
        let mut kept = State::default();
        let mut restored = State::default();
        for (look, seen) in hour.iter().enumerate() {
            if look == half {
                restored = serde_json::from_str(&serde_json::to_string(&restored).unwrap()).unwrap();
            }
            prop_assert_eq!(kept.decide(seen, &settings), restored.decide(seen, &settings));
        }
    }
}
