//! Each rule, by a small application that is driven look by look.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use right_sizing::{Decision, Settings, Step, replay};

use self::application::{Application, REFRESH_MS, START_MS};

mod application;

fn sentences(decision: &Decision) -> Vec<String> {
    decision.notes.iter().map(ToString::to_string).collect()
}

fn settings() -> Settings {
    Settings::new(30_000, 1)
}

#[test]
fn the_first_look_takes_what_runs_as_right() {
    for (pods, replicas) in [(0, 1), (1, 1), (3, 3), (5, 5), (12, 12)] {
        let decision = Application::new(12, pods, settings()).look(1.0);
        assert_eq!(
            (decision.step, decision.replicas),
            (Step::First, replicas),
            "{pods} pods"
        );
    }
}

#[test]
fn late_pods_get_as_many_shards_as_they_carry() {
    // Gained a second, pods, shardCount → replicas. 12 shards.
    let table = [
        (0.5, 2, 1, 4),  // 3 of 6
        (0.8, 2, 1, 3),  // 4.8: 4 a pod
        (0.95, 2, 1, 3), // 5.7: 5 a pod is 3 pods
        (0.5, 4, 1, 12), // 1.5 of 3
        (0.3, 1, 1, 4),  // 3.6 of 12
        (0.1, 1, 1, 4),  // no less than a quarter is believed
        (0.5, 2, 4, 3),  // shardCount bounds
        (0.5, 4, 3, 4),
    ];
    for (gain, pods, shard_count, replicas) in table {
        let mut application = Application::new(12, pods, Settings::new(30_000, shard_count));
        for _ in 0..12 {
            application.look(1.0);
        }
        let decision = application.until_a_step(gain, 60);
        assert_eq!(
            decision.replicas, replicas,
            "gain {gain}, {pods} pods, shardCount {shard_count}: {}",
            decision.reason
        );
        assert_eq!(decision.value, f64::from(replicas * shard_count));
        assert!(
            decision.reason.to_string().starts_with("late: shard "),
            "{}",
            decision.reason
        );
    }
}

#[test]
fn a_backlog_that_is_being_read_needs_no_more_pods() {
    let mut application = Application::new(12, 3, settings());
    application.lags_ms.fill(40_000);
    for _ in 0..4 {
        assert_ne!(application.look(1.3).step, Step::Out);
    }
}

#[test]
fn fewer_are_tried_and_taken_back_and_not_tried_again_soon() {
    let mut application = Application::new(12, 4, settings());
    application.look(1.0);
    let tried = application.until_a_step(1.0, 100);
    assert_eq!(
        (tried.step, tried.replicas),
        (Step::In, 3),
        "{}",
        tried.reason
    );
    assert!(application.at_ms - START_MS >= 600_000);
    application.deal(3);
    let back = application.until_a_step(0.8, 20);
    assert_eq!(
        (back.step, back.replicas),
        (Step::Back, 4),
        "{}",
        back.reason
    );
    let taken_back = application.at_ms;
    application.deal(4);
    application.lags_ms.fill(500);
    let again = application.until_a_step(1.0, 1000);
    assert_eq!((again.step, again.replicas), (Step::In, 3));
    assert!(
        application.at_ms - taken_back >= 80 * 60_000,
        "{}",
        application.at_ms - taken_back
    );
}

#[test]
fn a_trial_that_holds_is_followed_by_the_next() {
    let mut application = Application::new(12, 4, settings());
    application.look(1.0);
    for replicas in [3, 2, 1] {
        let decision = application.until_a_step(1.0, 100);
        assert_eq!(
            (decision.step, decision.replicas),
            (Step::In, replicas),
            "{}",
            decision.reason
        );
        application.deal(replicas);
    }
    assert_eq!(application.until_a_step(1.0, 300).step, Step::Hold);
}

#[test]
fn a_shard_whose_checkpoint_stands_is_left_out() {
    let mut application = Application::new(12, 3, settings());
    application.look(1.0);
    let mut last = application.look(1.0);
    for _ in 0..30 {
        last = application.look_each(|i| if i == 2 { 0.0 } else { 1.0 });
        assert_ne!(last.step, Step::Out, "{}", last.reason);
    }
    assert!(last.shards[2].left_out && last.active);
    assert!(
        last.notes[0]
            .to_string()
            .starts_with("shard 2's checkpoint has not moved for "),
        "{:?}",
        last.notes
    );
}

#[test]
fn a_shard_alone_and_late_is_to_be_split() {
    let mut application = Application::new(3, 3, settings());
    application.look(1.0);
    let mut last = application.look(1.0);
    for _ in 0..20 {
        last = application.look_each(|i| if i == 1 { 0.7 } else { 1.0 });
    }
    assert_eq!((last.step, last.replicas), (Step::Hold, 3));
    assert!(
        last.reason
            .to_string()
            .contains("shard 1 is too big for one pod, split it"),
        "{}",
        last.reason
    );
    assert_eq!(
        sentences(&last),
        ["shard 1 is too big for one pod: split it"]
    );
}

#[test]
fn a_reshard_keeps_the_replicas() {
    let mut application = Application::new(12, 5, settings());
    application.look(1.0);
    application.look(1.0);
    for shards in [24, 6] {
        application.owners.resize(shards, None);
        application.lags_ms.resize(shards, 500);
        application.checkpoints.resize(shards, 0);
        application.deal(5);
        let decision = application.look(1.0);
        assert_eq!((decision.step, decision.replicas), (Step::Hold, 5));
    }
}

#[test]
fn a_hand_over_is_no_sign_of_a_slow_pod() {
    let mut application = Application::new(12, 3, settings());
    for _ in 0..10 {
        application.look(1.0);
    }
    // Every lease moves, and for 45 s nobody reads; then they catch up.
    application.deal(4);
    for _ in 0..3 {
        assert_ne!(application.look(0.0).step, Step::Out);
    }
    for _ in 0..6 {
        let decision = application.look(1.5);
        assert_ne!(decision.step, Step::Out, "{}", decision.reason);
    }
}

#[test]
fn throttled_looks_are_no_sign_of_a_slow_pod() {
    let mut application = Application::new(12, 3, settings());
    for _ in 0..10 {
        application.look(1.0);
    }
    let old = application.seen();
    for _ in 0..10 {
        application.at_ms += REFRESH_MS;
        let mut seen = old.clone();
        seen.at_ms = application.at_ms;
        for shard in &mut seen.shards {
            shard.as_of_ms = Some(old.at_ms);
        }
        assert_eq!(application.decide(&seen).replicas, 3);
    }
}

#[test]
fn rare_checkpoints_are_noticed_and_said() {
    // Checkpoints every 60 s, all kept up with: the age runs from 0 to 60 s.
    let mut application = Application::new(4, 2, settings());
    let mut last = None;
    for look in 0..60_u64 {
        application.at_ms += REFRESH_MS;
        for i in 0..4 {
            let phase = (look + i as u64) % 4;
            application.lags_ms[i] = 1_000 + phase * REFRESH_MS;
            if phase == 0 {
                application.checkpoints[i] += 1;
            }
        }
        let seen = application.seen();
        let decision = application.decide(&seen);
        assert_ne!(decision.step, Step::Out, "{}", decision.reason);
        last = Some(decision);
    }
    let last = last.unwrap();
    assert_eq!(last.checkpoint_interval_ms, 60_000);
    assert_eq!(
        sentences(&last),
        [
            "lagThreshold 30 s is less than twice the checkpoint interval, which is about 60 s: decided as if it were 2 min"
        ]
    );
}

#[test]
fn what_is_read_keeps_it_active_and_what_rests_does_not() {
    let mut application = Application::new(
        2,
        1,
        Settings {
            activation_lag_threshold_ms: 20_000,
            ..settings()
        },
    );
    application.look(1.0);
    // Pods run: any unread record counts, or one read since.
    assert!(application.look(1.0).active);
    application.lags_ms.fill(0);
    application.at_ms += REFRESH_MS;
    application.checkpoints[0] += 1;
    let seen = application.seen();
    assert!(application.decide(&seen).active, "read since the last look");
    application.at_ms += REFRESH_MS;
    let seen = application.seen();
    assert!(!application.decide(&seen).active);
    // Nobody runs: only what is old enough counts; and the wish is what it was.
    application.deal(0);
    for (lag_ms, active) in [(0, false), (19_000, false), (20_000, true)] {
        application.lags_ms[0] = lag_ms;
        application.at_ms += REFRESH_MS;
        let seen = application.seen();
        let decision = application.decide(&seen);
        assert_eq!(
            (decision.active, decision.replicas),
            (active, 1),
            "{lag_ms}"
        );
    }
    let mut drained = application.seen();
    drained.at_ms += REFRESH_MS;
    drained.shards[0].unread_since_ms = None;
    drained.shards[0].drained = true;
    assert!(
        application.decide(&drained).active,
        "somebody must finish it"
    );
}

#[test]
fn busy_pods_are_relieved_before_anything_is_late_and_idle_ones_go() {
    // Busy, 12 shards on 4 pods → replicas.
    for (busy, replicas, step) in [
        (0.99, 6, Step::Out),
        (0.9, 4, Step::Hold),
        (0.4, 3, Step::In),
        (f64::NAN, 3, Step::In),
    ] {
        let mut application = Application::new(12, 4, settings());
        application.look(1.0);
        let mut last = None;
        for _ in 0..45 {
            application.at_ms += REFRESH_MS;
            for checkpoint in &mut application.checkpoints {
                *checkpoint += 1;
            }
            let mut seen = application.seen();
            for shard in &mut seen.shards {
                shard.busy = Some(busy);
            }
            let decision = application.state.decide(&seen, &application.settings);
            last = Some(decision.clone());
            if decision.step != Step::Hold {
                break;
            }
        }
        let last = last.unwrap();
        assert_eq!(
            (last.step, last.replicas),
            (step, replicas),
            "{busy}: {}",
            last.reason
        );
    }
}

#[test]
fn a_recording_is_decided_again_alike() {
    let mut application = Application::new(12, 2, settings());
    let mut decisions: Vec<Decision> = (0..30).map(|_| application.look(1.0)).collect();
    decisions.extend((0..30).map(|_| application.look(0.7)));
    let again: Vec<Decision> = replay(application.recording.as_bytes())
        .map(Result::unwrap)
        .collect();
    assert_eq!(again, decisions);

    let broken = format!(
        "{}\n\n{{\"settings\": 1}}\n",
        application.recording.lines().next().unwrap()
    );
    let error = replay(broken.as_bytes())
        .last()
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("line 3 of the recording is not {\"settings\""),
        "{error}"
    );
}

#[test]
fn the_first_pods_after_zero_need_not_settle() {
    let mut application = Application::new(12, 0, settings());
    application.lags_ms.fill(0);
    let seen = application.seen();
    application.decide(&seen);
    // One pod comes at once, and the records of twice as many as it can do.
    application.lags_ms.fill(30_000);
    application.deal(1);
    let out = application.until_a_step(0.5, 60);
    assert_eq!((out.step, out.replicas), (Step::Out, 3), "{}", out.reason);
    let waited = application.at_ms - START_MS;
    assert!(waited < 120_000, "only after {waited} ms");
}

#[test]
fn pauses_that_end_are_no_want_of_pods() {
    let mut application = Application::new(12, 3, settings());
    for _ in 0..4 {
        application.look(1.0);
    }
    // Of 20 s, over one look or two, and read up after each.
    for pause in [&[0.1, 0.6][..], &[0.4, 0.3], &[0.05, 0.7]] {
        for _ in 0..10 {
            for gain in pause.iter().chain(&[2.0, 1.5, 1.2, 1.0, 1.0, 1.0]) {
                let decision =
                    application.look_each(|shard| if shard % 3 == 0 { *gain } else { 1.0 });
                assert_ne!(
                    decision.step,
                    Step::Out,
                    "{pause:?} {gain}: {}",
                    decision.reason
                );
            }
        }
    }
    // What goes on is one, before it is late.
    let decision = application.until_a_step(0.6, 6);
    assert!(decision.replicas > 3, "{}", decision.reason);
    assert!(application.lags_ms[0] <= 30_000);
}
