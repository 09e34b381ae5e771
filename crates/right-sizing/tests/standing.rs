//! Checkpoints that stand: nothing is tried meanwhile, whatever the threshold; outages are told as
//! long as they last, and habits are no outages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use right_sizing::{Decision, Reason, Settings, ShardObservation, Step};
use support::{Day, REFRESH_MS, START_MS, healthy, reads};

fn leaves(shard: &mut ShardObservation) {
    shard.owner = None;
}

fn told(decision: &Decision) -> (u32, u32) {
    let outage = decision.outage.as_ref().expect("an outage is told");
    (outage.standing, outage.unread)
}

#[test]
fn while_all_checkpoints_stand_nothing_falls_below_what_ran_at_any_threshold() {
    for threshold_s in [30, 60, 120, 600, 3600] {
        // Also when the outage begins at the very look that a trial was due at.
        for looks in [40, 50, 58, 59, 60, 61, 62, 79, 80, 81] {
            let mut day = Day::new(6, 3);
            day.settings = Settings::new(threshold_s * 1000, 1);
            let before = day.look(looks, |_, shard, at_ms| reads(shard, at_ms));
            let ran = before.iter().map(|it| it.replicas).min().unwrap();
            if ran < 3 {
                continue;
            }
            let stood = day.look(400, |_, _, _| {});
            let least = stood.iter().map(|it| it.replicas).min();
            assert_eq!(least, Some(3), "{threshold_s} s, after {looks} looks");
            assert!(told(stood.last().unwrap()) == (6, 6));
            // However old records may become, it is told after minutes.
            let first = stood.iter().position(|it| it.outage.is_some()).unwrap();
            assert!(first <= 22, "{threshold_s} s: told after {first} looks");
        }
    }
}

#[test]
fn a_trial_that_checkpoints_stand_in_is_broken_off() {
    for threshold_s in [60, 600, 3600] {
        let mut day = healthy(6, 3, threshold_s, 2);
        let until_tried = day.look(200, |_, shard, at_ms| reads(shard, at_ms));
        let tried = until_tried.iter().position(|it| it.step == Step::In);
        let mut day = healthy(6, 3, threshold_s, 3 + tried.unwrap());
        let stood = day.look(400, |number, shard, _| {
            shard.owner = Some(format!("pod-{}", number % 2));
        });
        let back = stood.iter().position(|it| it.replicas == 3).unwrap();
        assert!(back <= 8, "{threshold_s} s: after {back} looks");
        assert_eq!(stood[back].step, Step::Back, "{}", stood[back].reason);
        for decision in &stood[back..] {
            assert_eq!(decision.replicas, 3, "{}", decision.reason);
        }
    }
}

#[test]
fn checkpoints_that_stand_are_not_told_as_on_time() {
    let mut day = healthy(6, 3, 3600, 20);
    let stood = day.last(12, |_, _, _| {});
    assert_eq!(
        stood.reason.to_string(),
        "6 checkpoints stand for longer than usual: 3 pods stay"
    );
}

#[test]
fn pods_of_a_shard_each_stand_as_well_as_others() {
    // Two of them are an outage; one is a record that its consumer cannot get past.
    for (standing, is_outage) in [(1, false), (2, true), (6, true)] {
        for threshold_s in [30, 600] {
            let mut day = healthy(24, 24, threshold_s, 20);
            let stood = day.look(400, |number, shard, at_ms| {
                if number >= standing {
                    reads(shard, at_ms);
                }
            });
            let last = stood.last().unwrap();
            assert_eq!(last.outage.is_some(), is_outage, "{}", last.reason);
            if is_outage {
                assert_eq!(told(last), (standing as u32, 24));
                assert!(stood.iter().all(|it| it.replicas == 24));
            }
        }
    }
}

#[test]
fn dead_pods_of_a_shard_each_make_no_trial_plausible() {
    for threshold_s in [30, 600, 3600] {
        let mut day = healthy(24, 24, threshold_s, 20);
        for decision in day.look(400, |number, shard, at_ms| {
            if number < 6 {
                shard.owner = None;
            } else {
                reads(shard, at_ms);
            }
        }) {
            assert_eq!(decision.replicas, 24, "{}", decision.reason);
        }
    }
}

#[test]
fn an_outage_counts_what_nobody_holds_and_is_told_until_checkpoints_move() {
    let mut day = healthy(12, 4, 30, 20);
    day.look(20, |_, _, _| {});
    // One pod after the other goes; then others take what they left, and do not get on.
    for gone in 1..=4 {
        for decision in day.look(20, |number, shard, _| {
            if number % 4 < gone {
                leaves(shard);
            }
        }) {
            assert_eq!(told(&decision), (12, 12), "{}", decision.reason);
            assert_eq!(decision.replicas, 4);
            let outage = decision.outage.unwrap();
            assert_eq!(outage.pods.len(), 4, "{:?}", outage.pods);
            assert!(outage.pods.contains(&"pod-0".to_owned()));
        }
    }
    let came = |number: usize, shard: &mut ShardObservation| {
        shard.owner = Some(format!("new-{}", number % 4));
    };
    for decision in day.look(20, |number, shard, _| came(number, shard)) {
        assert_eq!((told(&decision), decision.replicas), ((12, 12), 4));
    }
    let moves = day.last(1, |number, shard, at_ms| {
        came(number, shard);
        reads(shard, at_ms);
    });
    assert_eq!(moves.outage, None);
}

#[test]
fn pods_that_come_to_stay_in_an_outage_are_what_runs() {
    let mut day = healthy(24, 3, 30, 20);
    day.look(20, |_, _, _| {});
    let mut held_by = |pods: usize, looks: usize| {
        day.last(looks, |number, shard, _| {
            shard.owner = Some(format!("new-{}", number % pods));
        })
    };
    // In a rollout there is one more for some minutes.
    assert_eq!(held_by(4, 12).replicas, 3);
    assert_eq!(held_by(3, 60).replicas, 3);
    // Another trigger wants eight.
    assert_eq!(held_by(8, 24).replicas, 8);
    assert_eq!(held_by(3, 400).replicas, 8);
}

#[test]
fn the_outage_of_pods_that_go_is_told_while_the_others_read() {
    let mut day = healthy(12, 4, 30, 20);
    let stands = |number: usize| number % 4 < 2;
    let go_on = |number: usize, shard: &mut ShardObservation, at_ms| {
        if !stands(number) {
            reads(shard, at_ms);
        }
    };
    day.look(10, |number, shard, at_ms| go_on(number, shard, at_ms));
    let gone = day.look(60, |number, shard, at_ms| {
        if stands(number) {
            leaves(shard);
        }
        go_on(number, shard, at_ms);
    });
    for decision in &gone {
        assert_eq!(told(decision), (6, 12), "{}", decision.reason);
        assert_eq!(decision.replicas, 4);
    }
    let reason = gone.last().unwrap().reason.to_string();
    assert!(
        reason.ends_with(", all that pod-0 and 1 more had, now gone: 4 pods stay"),
        "{reason}"
    );
}

#[test]
fn an_outage_says_how_many_are_undecided_and_does_not_forget_them() {
    let mut day = healthy(12, 4, 30, 20);
    day.look(20, |_, _, _| {});
    let last = day.last(20, |number, shard, _| {
        shard.undecided = number > 0;
    });
    assert_eq!(told(&last), (12, 12), "{}", last.reason);
    assert_eq!(last.outage.as_ref().unwrap().undecided, 11);
    let reason = last.reason.to_string();
    assert!(
        reason.starts_with("outage: 12 of 12 shards with unread records (11 undecided) stand "),
        "{reason}"
    );
    // What moved while nobody could look did not stand.
    let moved = day.last(1, |number, shard, at_ms| {
        shard.undecided = false;
        if number > 0 {
            reads(shard, at_ms);
        }
    });
    assert_eq!(moved.outage, None, "{}", moved.reason);
}

#[test]
fn an_outage_that_began_before_the_scaler_is_told_soon_and_one_after_its_start_is_held() {
    // Old records are no habit.
    let mut day = Day::new(6, 3);
    let since_ms = START_MS - 1_200_000;
    let stood = day.look(20, |_, shard, _| shard.unread_since_ms = Some(since_ms));
    assert!(stood[8].outage.is_some(), "{}", stood[8].reason);
    // Young ones may be: until that is sure what runs stays.
    for (threshold_s, told_after) in [(30, 44..=50), (600, 44..=50), (3600, 124..=126)] {
        let mut day = Day::new(6, 3);
        day.settings = Settings::new(threshold_s * 1000, 1);
        let stood = day.look(400, |_, shard, at_ms| {
            shard.unread_since_ms.get_or_insert(at_ms - 2_000);
        });
        for decision in &stood {
            assert_eq!(decision.replicas, 3, "{}", decision.reason);
        }
        let first = stood.iter().position(|it| it.outage.is_some()).unwrap();
        assert!(told_after.contains(&first), "after {first} looks");
    }
}

#[test]
fn pods_that_come_late_prove_the_limit_of_leases() {
    let mut day = Day::new(12, 1);
    let held = |number: usize, shard: &mut ShardObservation, at_ms: u64| {
        if number < 5 {
            reads(shard, at_ms);
        } else {
            shard.owner = None;
            shard.unread_since_ms.get_or_insert(at_ms);
        }
    };
    let looks = day.look(28, held);
    let out = looks.iter().position(|it| it.step == Step::Out).unwrap();
    let back = looks.iter().position(|it| it.step == Step::In).unwrap();
    assert_eq!((looks[out].replicas, looks[back].replicas), (3, 1));
    // Five minutes after the wish the pods come, and the autoscaler has not taken them back yet.
    let three = |number: usize, shard: &mut ShardObservation, at_ms: u64| {
        shard.owner = Some(format!("pod-{}", number / 5));
        reads(shard, at_ms);
    };
    let came = day.last(1, three);
    assert_eq!((came.step, came.replicas), (Step::Out, 3));
    assert_eq!(
        came.reason.to_string(),
        "pods that came took what nobody took, and no pod takes more than 5 leases: so 3 pods"
    );
    // For longer than the four hours that anything else is remembered.
    for decision in day.look(2000, three) {
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
    // Two die, and nobody comes for long: they are waited for.
    for decision in day.look(200, held) {
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
}

#[test]
fn pods_that_took_nothing_are_tried_again_after_growing_waits() {
    let mut day = Day::new(12, 1);
    let looks = day.look(2400, |number, shard, at_ms| {
        if number < 5 {
            reads(shard, at_ms);
        } else {
            shard.owner = None;
            shard.unread_since_ms.get_or_insert(at_ms);
        }
    });
    let outs = looks.iter().filter(|it| it.step == Step::Out);
    let minutes: Vec<u64> = outs.map(|it| (it.at_ms - START_MS) / 60_000).collect();
    let waits: Vec<u64> = minutes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 4 && waits.is_sorted(), "{minutes:?}");
    assert!(waits[0] <= 20 && waits[1] >= 30, "{minutes:?}");
    assert!(
        looks
            .iter()
            .all(|it| it.replicas <= 3 && it.orphans > 0 || it.at_ms < START_MS + 180_000)
    );
}

#[test]
fn poisoned_shards_on_pods_that_read_on_are_no_outage_and_no_doubt() {
    for (shards, pods, poisoned) in [(12, 3, 2), (12, 3, 3), (20, 5, 2), (48, 12, 5)] {
        for threshold_s in [30, 600] {
            let mut day = healthy(shards, pods, threshold_s, 20);
            let mut tried = pods;
            for _ in 0..300 {
                let decision = day.last(1, |number, shard, at_ms| {
                    shard.owner = Some(format!("pod-{}", number % tried));
                    if number >= poisoned {
                        reads(shard, at_ms);
                    }
                });
                assert_eq!(decision.outage, None, "{}", decision.reason);
                assert_ne!(decision.step, Step::Back, "{}", decision.reason);
                tried = decision.replicas as usize;
                if tried < pods {
                    break;
                }
            }
            assert!(tried < pods, "{poisoned} of {shards} at {threshold_s} s");
        }
    }
}

#[test]
fn until_it_is_known_that_they_are_poisoned_nothing_is_tried() {
    // Two of them stand from a minute before a trial on.
    let mut day = healthy(12, 3, 30, 36);
    let stood = day.look(8, |number, shard, at_ms| {
        if number > 1 {
            reads(shard, at_ms);
        }
    });
    for decision in &stood {
        assert_eq!(decision.replicas, 3, "{}", decision.reason);
    }
    // Their pods read nothing else either.
    let mut day = healthy(12, 6, 3600, 36);
    for decision in day.look(100, |number, shard, at_ms| {
        if number % 6 > 1 {
            reads(shard, at_ms);
        }
    }) {
        assert_eq!(decision.replicas, 6, "{}", decision.reason);
    }
}

/// All is read, the last pod goes, and what comes then is read by nobody.
fn nobody_comes(day: &mut Day, looks: usize) -> Vec<Decision> {
    day.look(looks, |_, shard, at_ms| {
        if shard.owner.take().is_some() {
            reads(shard, at_ms);
        }
    })
}

#[test]
fn where_nobody_comes_after_pods_ended_in_good_order_it_is_an_outage() {
    let mut day = healthy(12, 4, 30, 20);
    let alone = nobody_comes(&mut day, 400);
    let first = alone.iter().position(|it| it.outage.is_some()).unwrap();
    assert!((18..=24).contains(&first), "after {first} looks");
    for decision in &alone[first..] {
        assert_eq!((told(decision), decision.replicas), ((12, 12), 4));
    }
    let reason = alone.last().unwrap().reason.to_string();
    assert!(
        reason.ends_with(", and nobody came; still 4 pods wished"),
        "{reason}"
    );
    // Pods come, and read twice as fast as records come: so many hours shall not take hours.
    let (gone_ms, back_ms) = (day.seen.at_ms - 400 * REFRESH_MS, day.seen.at_ms);
    let back = day.look(30, |number, shard, at_ms| {
        shard.owner = Some(format!("new-{}", number % 4));
        let until_ms = gone_ms + 2 * (at_ms - back_ms);
        shard.checkpoint = until_ms.to_string();
        shard.unread_since_ms = Some(until_ms);
    });
    let out = back.iter().find(|it| it.step == Step::Out).unwrap();
    assert_eq!(out.replicas, 12, "{}", out.reason);
}

#[test]
fn whoever_is_woken_from_zero_and_does_not_come_is_missed() {
    let mut day = Day::new(12, 1);
    day.look(20, |_, shard, _| leaves(shard));
    let woken = day.look(40, |_, shard, at_ms| {
        shard.unread_since_ms.get_or_insert(at_ms - 1_000);
    });
    let first = woken.iter().position(|it| it.outage.is_some()).unwrap();
    assert!((18..=24).contains(&first), "after {first} looks");
    assert_eq!(woken.last().unwrap().replicas, 1);
    // What stands has stood since there was work, not since nobody held it.
    for decision in &woken[..8] {
        let reason = &decision.reason;
        assert!(
            !matches!(reason, Reason::CheckpointsStand { .. }),
            "{reason}"
        );
    }
}

#[test]
fn pods_that_need_not_run_are_no_outage() {
    let mut day = healthy(6, 1, 30, 20);
    day.settings.activation_lag_threshold_ms = 1_800_000;
    let gone = day.look(128, |_, shard, _| leaves(shard));
    for decision in &gone {
        assert_eq!(decision.outage, None, "{}", decision.reason);
    }
    // There is work only since a moment ago: whoever reads it has yet to start.
    assert!(gone[100..].iter().any(|it| !it.active));
    assert!(gone.last().unwrap().active);
    assert!(day.last(20, |_, _, _| {}).outage.is_some());
}

#[test]
fn two_poisoned_shards_of_many_do_not_keep_fewer_pods_from_being_tried() {
    let mut day = healthy(48, 12, 30, 20);
    let tried = day.last(100, |number, shard, at_ms| {
        if number != 3 && number != 8 {
            reads(shard, at_ms);
        }
    });
    assert!(tried.replicas < 12, "{}", tried.reason);
}

#[test]
fn one_shard_that_recovers_does_not_ask_for_pods_for_all_that_stand() {
    let mut day = healthy(24, 6, 30, 20);
    day.look(240, |_, _, _| {});
    let (from_ms, back_ms) = (day.seen.at_ms - 3_600_000, day.seen.at_ms);
    for decision in day.look(30, |number, shard, at_ms| {
        if number == 0 {
            let until_ms = from_ms + (at_ms - back_ms) * 8;
            shard.checkpoint = until_ms.to_string();
            shard.unread_since_ms = Some(until_ms);
        }
    }) {
        assert_eq!(told(&decision), (23, 24));
        assert_eq!(decision.replicas, 6, "{}", decision.reason);
    }
}
