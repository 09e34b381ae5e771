//! Recordings of bad days, decided again, as they are and with variations: other pod names, a shard
//! on each pod, owners that come and go, and a recovery after them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use right_sizing::{Decision, Observation, Reason, Recorded, State, Step};

const START_MS: u64 = 1_764_100_000_000;
/// In `outage` and `one-pod-stands` all is on time until then.
const BROKEN_MS: u64 = START_MS + 1_200_000;

fn recording(name: &str) -> Vec<Recorded> {
    let file = format!("tests/recordings/{name}.jsonl");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn decide(recording: &[Recorded]) -> Vec<Decision> {
    let mut state = State::default();
    let lines = recording.iter();
    lines
        .map(|line| state.decide(&line.observation, &line.settings))
        .collect()
}

/// Gives each shard the owner that `owner` says, by its number, its owner and the line's number.
fn with_owners(
    recording: &[Recorded],
    owner: impl Fn(usize, &str, usize) -> String,
) -> Vec<Recorded> {
    let mut changed = recording.to_vec();
    for (line, recorded) in changed.iter_mut().enumerate() {
        for (number, shard) in recorded.observation.shards.iter_mut().enumerate() {
            if let Some(name) = &mut shard.owner {
                *name = owner(number, name, line);
            }
        }
    }
    changed
}

fn renamed(recording: &[Recorded]) -> Vec<Recorded> {
    with_owners(recording, |_, owner, _| {
        let (name, number) = owner.rsplit_once('-').unwrap();
        format!("{name}-{}", (number.parse::<u32>().unwrap() + 1) % 3)
    })
}

fn one_shard_a_pod(recording: &[Recorded]) -> Vec<Recorded> {
    with_owners(recording, |number, _, _| format!("pod-{number}"))
}

/// Continues where the recording ends: all shards are held, and gain so much a second.
fn then_recovers(recording: &mut Vec<Recorded>, gain: f64, refreshes: u32) {
    let mut last = recording.last().unwrap().clone();
    for refresh in 0..refreshes {
        last.observation.at_ms += 30_000;
        let at_ms = last.observation.at_ms;
        for shard in &mut last.observation.shards {
            shard.checkpoint = format!("recovered {refresh}");
            let since = shard.unread_since_ms.unwrap() + (30_000.0 * gain) as u64;
            shard.unread_since_ms = Some(since.min(at_ms - 2_000));
        }
        recording.push(last.clone());
    }
}

#[test]
fn in_an_outage_what_ran_stays_and_the_reason_says_outage() {
    let plain = recording("outage");
    let crash_loop = with_owners(&plain, |_, owner, line| {
        if line < 40 {
            owner.to_owned()
        } else {
            format!("{owner}-{}", line / 3)
        }
    });
    let restarted = plain[60..].to_vec();
    for (recording, pods) in [
        (renamed(&plain), 3),
        (one_shard_a_pod(&plain), 6),
        (crash_loop, 3),
        (restarted, 3),
        (plain, 3),
    ] {
        // At first nobody can tell that they stand.
        let first_ms = recording[0].observation.at_ms.max(BROKEN_MS);
        for decision in decide(&recording) {
            assert_eq!(decision.replicas, pods, "{}", decision.reason);
            assert!(decision.active);
            // Owners that change are given time to move a checkpoint.
            if decision.at_ms > first_ms + 180_000 {
                let outage = decision.outage.expect("an outage");
                assert_eq!((outage.standing, outage.unread), (6, 6));
                assert!(matches!(
                    decision.reason,
                    Reason::Outage { standing: 6, .. }
                ));
            }
        }
    }
}

#[test]
fn the_outage_of_one_pod_names_it() {
    let plain = recording("one-pod-stands");
    for (recording, pod) in [(renamed(&plain), "pod-1"), (plain, "pod-0")] {
        for decision in decide(&recording) {
            assert_eq!(decision.replicas, 3, "{}", decision.reason);
            if decision.at_ms > BROKEN_MS + 60_000 {
                assert_eq!(decision.outage.unwrap().pods, [pod]);
                assert_eq!(
                    decision.reason.to_string().split(':').next(),
                    Some("outage")
                );
                assert!(decision.reason.to_string().contains(pod));
            }
        }
    }
}

#[test]
fn a_single_shard_that_stands_is_left_out_and_no_outage() {
    let healthy = recording("one-pod-stands");
    let before: Vec<_> = healthy[..40].to_vec();
    for one_a_pod in [false, true] {
        let mut stands = before.clone();
        for _ in 0..60 {
            let mut next = stands.last().unwrap().clone();
            next.observation.at_ms += 30_000;
            let at_ms = next.observation.at_ms;
            for shard in next.observation.shards.iter_mut().skip(1) {
                shard.checkpoint = at_ms.to_string();
                shard.unread_since_ms = Some(at_ms - 4_000);
            }
            stands.push(next);
        }
        if one_a_pod {
            stands = one_shard_a_pod(&stands);
        }
        let last = decide(&stands).pop().unwrap();
        assert_eq!(last.outage, None, "{}", last.reason);
        assert!(last.shards[0].left_out);
        assert!(
            last.notes[0]
                .to_string()
                .starts_with("shard 0's checkpoint has not moved for ")
        );
    }
}

#[test]
fn shards_that_stand_on_pods_that_read_the_rest_are_no_outage() {
    let mut stands = recording("outage")[..40].to_vec();
    let last = stands[39].clone();
    for line in 1..=60_u64 {
        let mut next = last.clone();
        next.observation.at_ms += line * 30_000;
        // Two on different pods stand; the others get a record now and then, and read it.
        for shard in next.observation.shards.iter_mut().skip(2) {
            shard.checkpoint = format!("{}", 1_000 + line / 2);
            shard.unread_since_ms = None;
        }
        stands.push(next);
    }
    stands[40..].iter_mut().for_each(|line| {
        // Two of twelve.
        let shards = &mut line.observation.shards;
        let others = shards[2..].to_vec();
        for (number, mut shard) in others.into_iter().chain(shards[2..4].to_vec()).enumerate() {
            shard.id = format!("shardId-{:012}", 100 + number);
            shards.push(shard);
        }
    });
    for decision in &decide(&stands)[45..] {
        assert_eq!(decision.outage, None, "{}", decision.reason);
        assert_eq!(decision.shards.iter().filter(|it| it.left_out).count(), 2);
    }
}

#[test]
fn the_backlog_of_an_outage_is_met_in_one_step_and_then_what_ran_is_enough() {
    let plain = recording("outage");
    // The pods that read again are often new ones.
    for (mut recording, ran, new_pods) in [
        (plain.clone(), 3, false),
        (renamed(&plain), 3, false),
        (plain.clone(), 3, true),
    ] {
        let lines = recording.len();
        then_recovers(&mut recording, 3.0, 150);
        if new_pods {
            recording = with_owners(&recording, |_, owner, line| {
                let is_new = line >= lines;
                format!("{owner}{}", if is_new { "-new" } else { "" })
            });
        }
        let decisions = decide(&recording);
        let steps = decisions[lines..].iter().filter(|it| it.step == Step::Out);
        let steps: Vec<_> = steps.map(|it| (it.at_ms, it.replicas)).collect();
        let [(at_ms, 6)] = steps[..] else {
            panic!("one step to a shard a pod, not {steps:?}");
        };
        let recovered_ms = recording[lines].observation.at_ms;
        assert!(at_ms - recovered_ms <= 90_000);
        let hour = decisions
            .iter()
            .take_while(|it| it.at_ms < recovered_ms + 3_600_000);
        assert!(hour.into_iter().all(|it| it.replicas >= ran));
    }
}

/// Continues with shards that owners hold and read, but for the standing one.
fn goes_on(
    state: &mut State,
    last: &Recorded,
    minutes: std::ops::Range<u64>,
    owner: impl Fn(usize) -> Option<String>,
    stands: impl Fn(usize) -> bool,
    falls_back_from_ms: Option<u64>,
) -> Vec<Decision> {
    let mut next = last.clone();
    let from_ms = last.observation.at_ms;
    let refreshes = minutes.start * 4 + 1..=minutes.end * 4;
    let decide = |refresh: u64| {
        let at_ms = from_ms + refresh * 15_000;
        next.observation.at_ms = at_ms;
        for (number, shard) in next.observation.shards.iter_mut().enumerate() {
            shard.owner = owner(number);
            if stands(number) || shard.owner.is_none() {
                continue;
            }
            shard.checkpoint = at_ms.to_string();
            let lag_ms = falls_back_from_ms.map_or(0, |from_ms| (at_ms - from_ms) / 2);
            shard.unread_since_ms = Some(at_ms - 1_000 - lag_ms);
        }
        state.decide(&next.observation, &next.settings)
    };
    refreshes.map(decide).collect()
}

#[test]
fn the_load_that_grew_in_an_outage_is_not_forgotten_after_it() {
    let recording = recording("one-pod-stands");
    let mut state = State::default();
    for line in &recording[..60] {
        state.decide(&line.observation, &line.settings);
    }
    let (last, from_ms) = (&recording[59], recording[59].observation.at_ms);
    let dealt = |number: usize| Some(format!("pod-{}", number % 3));
    let falls_back = Some(from_ms);
    let decisions = goes_on(&mut state, last, 0..3, dealt, |it| it % 3 == 0, falls_back);
    assert_eq!(decisions.last().unwrap().replicas, 6);
    // The pod that hangs has one shard left: that one is left out, and the load is what it is.
    let one_each = |number: usize| Some(format!("pod-{number}"));
    for decision in goes_on(&mut state, last, 3..18, one_each, |it| it == 0, None) {
        assert_eq!(decision.replicas, 6, "{}", decision.reason);
    }
}

#[test]
fn after_an_outage_no_pod_gets_more_leases_than_it_takes() {
    let mut full = recording("pod-takes-five-of-twelve").swap_remove(0);
    // So old that it is no habit.
    for shard in &mut full.observation.shards {
        shard.unread_since_ms = shard.unread_since_ms.map(|since| since - 900_000);
    }
    let full = &full;
    let mut state = State::default();
    let one = |number: usize| (number < 5).then(|| "pod-0".to_owned());
    let stood = goes_on(&mut state, full, 0..5, one, |_| true, None);
    assert!(stood.last().unwrap().outage.is_some());
    let reads = goes_on(&mut state, full, 5..6, one, |_| false, None);
    assert_eq!(reads.last().unwrap().replicas, 3);
    let three = |number: usize| Some(format!("pod-{}", number / 5));
    for decision in goes_on(&mut state, full, 6..40, three, |_| false, None) {
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
}

#[test]
fn pods_that_are_full_get_company_in_one_step() {
    let decisions = decide(&recording("pod-takes-five-of-twelve"));
    let out = decisions.iter().find(|it| it.step == Step::Out).unwrap();
    assert!(out.at_ms - START_MS <= 120_000);
    assert_eq!(
        (out.replicas, out.reason.to_string().as_str()),
        (
            3,
            "nobody takes 7 shards, and no pod holds more than 5: they are full; so 3 pods"
        )
    );
    // In the recording none comes: nobody takes them, and that is said.
    let back = decisions.iter().find(|it| it.step == Step::In).unwrap();
    assert_eq!(back.at_ms - out.at_ms, 180_000);
    assert_eq!(
        (back.replicas, back.reason.to_string().as_str()),
        (
            1,
            "3 pods were wished, and none of 7 shards without owner was taken: back to 1 pod"
        )
    );
    let last = decisions.last().unwrap();
    assert_eq!((last.replicas, last.orphans), (1, 7), "{}", last.reason);
    assert_eq!(
        last.notes.last().unwrap().to_string(),
        "shard 5 and 6 more have no owner; 3 pods were wished for that, and none was taken"
    );
}

#[test]
fn with_a_slow_rhythm_leases_are_waited_for() {
    let mut slow = recording("pod-takes-five-of-twelve");
    for line in &mut slow {
        line.observation.rhythm_ms = Some(100_000);
    }
    let decisions = decide(&slow);
    let out = decisions.iter().find(|it| it.step == Step::Out).unwrap();
    assert_eq!(out.at_ms - START_MS, 315_000);
    // Rows that cannot be read are not free to be taken.
    for shard in slow
        .iter_mut()
        .flat_map(|line| &mut line.observation.shards)
    {
        shard.malformed = shard.owner.is_none();
    }
    let decisions = decide(&slow);
    assert!(
        decisions
            .iter()
            .all(|it| it.step != Step::Out && it.orphans == 0)
    );
}

#[test]
fn a_limit_of_leases_is_kept_to() {
    let mut recording = recording("pod-takes-five-of-twelve");
    recording.truncate(10);
    let mut last = recording.last().unwrap().clone();
    for _ in 0..100 {
        last.observation.at_ms += 15_000;
        let at_ms = last.observation.at_ms;
        for (number, shard) in last.observation.shards.iter_mut().enumerate() {
            shard.owner = Some(format!("pod-{}", number / 5));
            shard.checkpoint = at_ms.to_string();
            shard.unread_since_ms = Some(at_ms - 1_000);
        }
        recording.push(last.clone());
    }
    let last = decide(&recording).pop().unwrap();
    assert_eq!(
        (last.replicas, last.reason.to_string().as_str()),
        (3, "on time with 3 pods: a pod takes no more than 5 leases")
    );
}

#[test]
fn a_shard_without_owner_does_not_hide_the_others() {
    let orphan = recording("orphan-hides-the-others");
    let mut without = orphan.clone();
    for line in &mut without {
        line.observation
            .shards
            .retain(|shard| shard.owner.is_some());
    }
    let outs = |recording| -> Vec<u64> {
        let decisions = decide(recording);
        let outs = decisions.into_iter().filter(|it| it.step == Step::Out);
        outs.map(|it| it.at_ms).collect()
    };
    assert_eq!(outs(&orphan), outs(&without));
    assert!(decide(&orphan).last().unwrap().replicas > 3);
}

#[test]
fn ages_are_taken_against_awss_time() {
    let ahead = recording("clock-ahead");
    assert!(decide(&ahead).last().unwrap().replicas > 2, "the symptom");
    // AWS says whole seconds.
    for skew_ms in [35_000_i64, -35_000] {
        let mut told = ahead.clone();
        for (line, recorded) in told.iter_mut().enumerate() {
            let Observation { at_ms, shards, .. } = &mut recorded.observation;
            let aws_ms = *at_ms - 35_000;
            *at_ms = aws_ms.saturating_add_signed(skew_ms);
            // Not always at the same part of a second.
            *at_ms += line as u64 * 137 % 1000;
            let seconds = (aws_ms + line as u64 * 137 % 1000) / 1000;
            assert!(shards.iter().all(|it| it.unread_since_ms <= Some(aws_ms)));
            recorded.observation.aws_ms = Some(seconds * 1000);
        }
        for decision in decide(&told) {
            assert!(decision.replicas <= 2, "{}", decision.reason);
            assert!(decision.shards.iter().all(|it| it.age_ms < Some(5_000)));
        }
    }
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_late() {
    let mut state = State::default();
    for mut recorded in recording("outage").into_iter().take(40) {
        let Observation { at_ms, aws_ms, .. } = &mut recorded.observation;
        *aws_ms = Some(*at_ms);
        if *at_ms >= START_MS + 600_000 {
            *at_ms -= 300_000;
        }
        let told_ms = *at_ms;
        let decision = state.decide(&recorded.observation, &recorded.settings);
        assert_eq!(decision.at_ms, told_ms);
        assert!(decision.shards.iter().all(|it| it.age_ms < Some(5_000)));
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
}
