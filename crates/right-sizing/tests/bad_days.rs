//! Bad days of other kinds than those recorded, refresh by refresh: scalers that start in the
//! middle of one, habits that are not known yet, and what was a fault once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

use right_sizing::{Decision, Reason, Recorded, State, Step};
use support::{Day, REFRESH_MS, START_MS, reads};

fn is_outage(decision: &Decision) -> bool {
    assert_eq!(
        decision.outage.is_some(),
        matches!(decision.reason, Reason::Outage { .. }),
        "{}",
        decision.reason
    );
    decision.outage.is_some()
}

/// A recording from a line on, as a scaler sees it that started then: it believes all owners until
/// those that `is_dead` did not renew for 45 s.
fn restarted(name: &str, line: usize, is_dead: impl Fn(&str) -> bool) -> Vec<Recorded> {
    let file = format!("tests/recordings/{name}.jsonl");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let lines = text.lines().skip(line);
    let mut lines: Vec<Recorded> = lines.map(|it| serde_json::from_str(it).unwrap()).collect();
    let start_ms = lines[0].observation.at_ms;
    for line in &mut lines {
        let since_start_ms = line.observation.at_ms - start_ms;
        for shard in &mut line.observation.shards {
            if shard.owner.as_deref().is_some_and(&is_dead) {
                shard.unconfirmed = since_start_ms < 45_000;
                shard.owner.take_if(|_| since_start_ms >= 45_000);
            }
        }
    }
    lines
}

#[test]
fn a_scaler_that_starts_in_an_outage_of_dead_pods_holds_what_ran() {
    let mut state = State::default();
    for line in restarted("outage", 60, |_| true) {
        let decision = state.decide(&line.observation, &line.settings);
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
        assert!(decision.active);
        if decision.running == 0 {
            let outage = decision.outage.unwrap();
            assert_eq!((outage.standing, outage.unread), (6, 6));
            assert_eq!(outage.pods, ["pod-0", "pod-1", "pod-2"]);
            let reason = decision.reason.to_string();
            assert!(
                reason.starts_with("outage: 6 of 6 shards with unread records stand still for ")
                    && reason.ends_with(
                        ": pod-0 and 2 more are gone, and nobody came; still 3 pods wished"
                    ),
                "{reason}"
            );
        }
    }
}

#[test]
fn the_same_of_one_dead_pod_and_the_others_go_on() {
    let mut state = State::default();
    for line in restarted("one-pod-stands", 60, |owner| owner == "pod-0") {
        let decision = state.decide(&line.observation, &line.settings);
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
}

#[test]
fn owners_of_months_ago_are_not_what_ran() {
    // Nobody writes to half of the shards, and who held them is long gone.
    let mut day = Day::new(12, 6);
    let decisions = day.look(24, |number, shard, at_ms| {
        if number % 6 < 3 {
            return reads(shard, at_ms);
        }
        shard.unconfirmed = at_ms - START_MS < 60_000;
        shard.owner.take_if(|_| at_ms - START_MS >= 60_000);
    });
    assert_eq!(decisions[0].replicas, 6);
    let last = decisions.last().unwrap();
    assert_eq!(last.replicas, 3, "{}", last.reason);
    assert!(decisions.iter().all(|it| !is_outage(it)));
}

#[test]
fn pods_that_came_for_dead_ones_are_not_taken_away() {
    // A rollout, and the scaler starts in the middle of it.
    let mut day = Day::new(12, 3);
    let decisions = day.look(30, |number, shard, at_ms| {
        if number % 3 == 0 && at_ms - START_MS < 45_000 {
            shard.unconfirmed = true;
            return;
        }
        if number % 3 == 0 {
            shard.unconfirmed = false;
            shard.owner = Some("pod-new".to_owned());
        }
        reads(shard, at_ms);
    });
    for decision in decisions {
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
}

#[test]
fn pods_that_renew_seldom_are_not_taken_for_dead() {
    // After 45 s without a renewal nobody knows better; they renew each 100 s.
    for (busy, threshold_s) in [(0, 30), (0, 600), (2, 30)] {
        let mut day = Day::new(12, 6);
        day.settings.lag_threshold_ms = threshold_s * 1000;
        for decision in day.look(36, |number, shard, at_ms| {
            let since_ms = at_ms - START_MS;
            let pod = number % 6;
            shard.unconfirmed = pod >= busy && since_ms < 75_000;
            let seems_dead = pod >= busy && (45_000..75_000).contains(&since_ms);
            shard.owner = (!seems_dead).then(|| format!("pod-{pod}"));
            reads(shard, at_ms);
        }) {
            assert_eq!(decision.replicas, 6, "{}", decision.reason);
        }
    }
}

#[test]
fn a_scaler_that_is_moved_together_with_the_pods_wishes_as_many() {
    // A node is drained: the old owners are in the table, and new ones come after 75 s.
    let mut day = Day::new(12, 6);
    for decision in day.look(36, |number, shard, at_ms| {
        let since_ms = at_ms - START_MS;
        shard.unconfirmed = since_ms < 45_000;
        match since_ms {
            0..45_000 => {
                shard.unread_since_ms.get_or_insert(at_ms);
            }
            45_000..75_000 => shard.owner = None,
            _ => {
                shard.owner = Some(format!("new-{}", number % 6));
                reads(shard, at_ms);
            }
        }
    }) {
        assert_eq!(decision.replicas, 6, "{}", decision.reason);
    }
}

#[test]
fn throttled_probes_do_not_make_checkpoints_seldom() {
    let mut day = Day::new(6, 3);
    let mut look = 0;
    let decisions = day.look(200, |number, shard, at_ms| {
        look += usize::from(number == 0);
        // Two of three probes of each shard fail.
        if (look + number) % 3 == 0 {
            reads(shard, at_ms);
        } else {
            shard.as_of_ms.get_or_insert(at_ms - REFRESH_MS);
        }
    });
    for decision in &decisions {
        assert_eq!(decision.checkpoint_interval_ms, 0);
        assert!(!is_outage(decision), "{}", decision.reason);
    }
    // So an outage is seen as soon as elsewhere.
    let stands = day.look(5, |_, shard, _| shard.as_of_ms = None);
    assert!(is_outage(stands.last().unwrap()));
}

#[test]
fn checkpoints_that_are_rare_are_no_outage_from_the_first_refresh_on() {
    for seconds in [15, 30, 60, 75] {
        let mut day = Day::new(6, 3);
        let decisions = day.look(200, |number, shard, at_ms| {
            let since_ms = (at_ms - START_MS + number as u64 * REFRESH_MS) % (seconds * 1000);
            if since_ms < REFRESH_MS {
                reads(shard, at_ms);
            }
        });
        for decision in &decisions {
            assert!(!is_outage(decision), "{seconds}: {}", decision.reason);
            assert_eq!(
                decision
                    .notes
                    .iter()
                    .filter(|it| it.to_string().contains("left out"))
                    .count(),
                0
            );
        }
    }
}

#[test]
fn a_poisoned_record_that_gets_through_is_no_failed_trial() {
    let mut day = Day::new(12, 4);
    day.look(12, |_, shard, at_ms| reads(shard, at_ms));
    // Until fewer are tried, one shard stands; it goes on in the middle of the trial.
    let mut tried = None;
    let decisions = day.look(100, |number, shard, at_ms| {
        if number != 5 {
            reads(shard, at_ms);
        }
    });
    for decision in &decisions {
        if decision.step == Step::In {
            tried = tried.or(Some(decision.replicas));
        }
    }
    assert!(tried.is_some());
    let wish = decisions.last().unwrap().replicas;
    let pods = wish as usize;
    // What came meanwhile is read at five times its speed.
    for decision in day.look(40, |number, shard, at_ms| {
        shard.owner = Some(format!("pod-{}", number % pods));
        if number == 5 {
            shard.checkpoint = at_ms.to_string();
            let since_ms = shard.unread_since_ms.unwrap() + 5 * REFRESH_MS;
            shard.unread_since_ms = Some(since_ms.min(at_ms - 1_000));
        } else {
            reads(shard, at_ms);
        }
    }) {
        assert_ne!(decision.step, Step::Back, "{}", decision.reason);
        assert!(decision.replicas <= wish, "{}", decision.reason);
    }
}

#[test]
fn rows_that_cannot_be_read_are_named() {
    let mut day = Day::new(3, 1);
    let last = day.last(4, |number, shard, at_ms| {
        reads(shard, at_ms);
        if number > 0 {
            (shard.malformed, shard.owner) = (true, None);
        }
    });
    assert_eq!(
        last.notes[0].to_string(),
        "the row of shard 1 and 1 more in the lease table cannot be read: left out"
    );
}

#[test]
fn shards_that_nobody_takes_are_not_told_as_on_time() {
    let mut day = Day::new(15, 3);
    let last = day.last(60, |number, shard, at_ms| {
        if number >= 12 {
            shard.owner = None;
            shard.unread_since_ms.get_or_insert(at_ms);
        } else {
            reads(shard, at_ms);
        }
    });
    assert_eq!((last.replicas, last.orphans), (3, 3));
    assert_eq!(
        last.reason.to_string(),
        "nobody takes 3 shards; but for that on time with 3 pods"
    );
}

#[test]
fn a_backlog_that_is_read_fast_is_told_in_time_and_not_in_shards() {
    let mut day = Day::new(10, 1);
    for shard in &mut day.seen.shards {
        shard.unread_since_ms = Some(START_MS - 4 * 3_600_000);
    }
    let decisions = day.look(12, |_, shard, at_ms| {
        shard.checkpoint = at_ms.to_string();
        shard.unread_since_ms = Some(shard.unread_since_ms.unwrap() + 10 * REFRESH_MS);
    });
    let late = decisions.iter().find(|it| it.step == Step::Out).unwrap();
    assert_eq!(
        late.reason.to_string(),
        "late: shard 9 is 233 min old and gains 10.0 s a second, which takes its pod too long; so 2 shards a pod"
    );
}
