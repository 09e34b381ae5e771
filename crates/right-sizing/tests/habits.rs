//! How often checkpoints are made, and by what clock that is seen: neither is an outage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use right_sizing::{Decision, Settings, ShardObservation};
use support::{Day, REFRESH_MS, START_MS, healthy, reads};

#[test]
fn who_checkpoints_every_five_minutes_has_no_outage_at_any_start() {
    for phase_s in (0..300).step_by(20) {
        for together in [true, false] {
            for threshold_s in [30, 600] {
                let mut day = Day::new(6, 3);
                day.settings = Settings::new(threshold_s * 1000, 1);
                for decision in day.look(320, |number, shard, at_ms| {
                    let own_s = if together { 0 } else { number as u64 * 47 };
                    let since_ms = at_ms - START_MS + 600_000 + (phase_s + own_s) * 1000;
                    let checkpoint_ms = at_ms - since_ms % 300_000;
                    shard.checkpoint = checkpoint_ms.to_string();
                    shard.unread_since_ms = Some(checkpoint_ms);
                }) {
                    assert_eq!(decision.outage, None, "{phase_s} s: {}", decision.reason);
                }
            }
        }
    }
}

/// Read up to `until_ms`, of which every so often a checkpoint is made.
fn checkpoints_every(every_ms: u64, shard: &mut ShardObservation, at_ms: u64, until_ms: u64) {
    if at_ms / every_ms > (at_ms - REFRESH_MS) / every_ms {
        shard.checkpoint = until_ms.to_string();
        shard.unread_since_ms = Some(until_ms);
    }
}

#[test]
fn shards_with_rare_checkpoints_do_not_hide_that_their_pod_is_late() {
    for (every_s, threshold_s) in [(400, 1200), (240, 120)] {
        let mut day = Day::new(12, 1);
        day.settings = Settings::new(threshold_s * 1000, 1);
        let mut drive = |looks: usize, speed: f64, from_ms: u64| {
            day.look(looks, |number, shard, at_ms| {
                let until_ms = from_ms + ((at_ms - from_ms) as f64 * speed) as u64 - 1_000;
                let rarely_ms = every_s * 1000;
                let every_ms = if number < 3 { rarely_ms } else { REFRESH_MS };
                checkpoints_every(every_ms, shard, at_ms + number as u64 * 90_000, until_ms);
            })
        };
        let good = drive(200, 1.0, START_MS);
        assert_eq!(good.last().unwrap().outage, None);
        let since_ms = START_MS + 200 * REFRESH_MS;
        let late = drive(threshold_s as usize / 5, 0.5, since_ms);
        let last = late.last().unwrap();
        assert!(last.replicas >= 2, "{threshold_s} s: {}", last.reason);
    }
}

#[test]
fn who_checkpoints_far_less_often_from_now_on_is_told_once() {
    let mut day = healthy(12, 6, 30, 120);
    // By the count of records, of which far fewer come.
    let rare = day.look(400, |number, shard, at_ms| {
        let at_ms = at_ms + number as u64 * 20_000;
        checkpoints_every(300_000, shard, at_ms, at_ms - number as u64 * 20_000);
    });
    for decision in &rare[60..] {
        assert_eq!(decision.outage, None, "{}", decision.reason);
    }
}

#[test]
fn who_checkpoints_every_quarter_of_an_hour_may_where_an_hour_is_allowed() {
    let mut day = Day::new(6, 3);
    day.settings = Settings::new(3_600_000, 1);
    let looks = day.look(400, |_, shard, at_ms| {
        shard.unread_since_ms.get_or_insert(at_ms);
        checkpoints_every(900_000, shard, at_ms, at_ms);
    });
    for decision in &looks {
        assert_eq!(decision.outage, None, "{}", decision.reason);
    }
    assert!(looks.last().unwrap().replicas < 3);
}

/// Intervals of any length, of which short ones are as likely as in waiting for chance.
fn by_chance(seed: &mut u64, mean_ms: f64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let part = ((*seed >> 33) as f64 + 1.0) / f64::from(1_u32 << 31);
    (-part.ln() * mean_ms) as u64
}

#[test]
fn checkpoints_by_chance_let_fewer_pods_be_tried_and_are_no_outage() {
    for (mean_s, threshold_s) in [(60, 120), (30, 120), (300, 1200), (900, 3600)] {
        let mut day = Day::new(12, 6);
        day.settings = Settings::new(threshold_s * 1000, 1);
        let (mut seed, mean_ms) = (7, mean_s as f64 * 1000.0);
        let mut next_ms = [START_MS; 12];
        let mut pods = 6;
        let (mut outages, mut least) = (0, 6);
        for look in 0..240 * 8 {
            let decision = day.last(1, |number, shard, at_ms| {
                shard.owner = Some(format!("pod-{}", number % pods));
                while next_ms[number] <= at_ms {
                    shard.checkpoint = next_ms[number].to_string();
                    shard.unread_since_ms = Some(next_ms[number]);
                    next_ms[number] += by_chance(&mut seed, mean_ms);
                }
            });
            // Until most shards have shown how seldom it may be, nobody can know.
            let is_known = look * 15 > 6 * mean_s;
            outages += usize::from(is_known && decision.outage.is_some());
            pods = decision.replicas as usize;
            least = least.min(pods);
        }
        assert!(outages <= 20, "{mean_s} s: {outages} looks");
        assert!(least <= 3, "{mean_s} s: never fewer than {least} pods");
    }
}

#[test]
fn a_clock_that_is_set_back_goes_on_from_where_it_was() {
    let mut day = Day::new(6, 3);
    day.look(20, |_, shard, at_ms| reads(shard, at_ms));
    // All stands, and so does AWS's time of the records; the clock says an hour less.
    day.seen.at_ms -= 3_600_000;
    let stood = day.look(20, |_, _, _| {});
    assert!(stood.last().unwrap().outage.is_some());
    assert_eq!(
        stood.last().unwrap().at_ms,
        START_MS + 40 * REFRESH_MS - 3_600_000
    );
    let ages = stood.last().unwrap().shards.iter().map(|it| it.age_ms);
    for age_ms in ages {
        assert!((250_000..320_000).contains(&age_ms.unwrap()), "{age_ms:?}");
    }
    // It is set right.
    day.seen.at_ms += 3_600_000;
    let right = day.last(1, |_, _, _| {});
    let age_ms = right.shards[0].age_ms.unwrap();
    assert!((250_000..330_000).contains(&age_ms), "{age_ms}");
}

#[test]
fn a_clock_that_is_set_ahead_and_back_makes_nothing_stand_where_awss_time_is_known() {
    const HOUR_MS: u64 = 3_600_000;
    let mut day = Day::new(6, 3);
    let mut go_on = |looks: usize, ahead_ms: u64, standing: bool| {
        let decisions: Vec<Decision> = (0..looks)
            .map(|_| {
                day.seen.at_ms += REFRESH_MS;
                let aws_ms = day.seen.at_ms;
                day.seen.aws_ms = Some(aws_ms);
                for shard in &mut day.seen.shards {
                    if !standing {
                        reads(shard, aws_ms);
                    }
                }
                let mut seen = day.seen.clone();
                seen.at_ms += ahead_ms;
                day.state.decide(&seen, &day.settings)
            })
            .collect();
        decisions
    };
    for hours in [0, 1, 0, 5, 3, 0] {
        for decision in go_on(20, hours * HOUR_MS, false) {
            assert_eq!(decision.outage, None, "{hours}: {}", decision.reason);
            let oldest = decision.shards.iter().filter_map(|it| it.age_ms).max();
            assert!(oldest < Some(20_000), "{hours}: {oldest:?}");
            assert!(decision.notes.is_empty(), "{hours}: {:?}", decision.notes);
        }
    }
    // And an outage is seen as soon as ever, of the length that it has.
    let stood = go_on(20, 2 * HOUR_MS, true);
    let outage = stood.last().unwrap().outage.clone().unwrap();
    let reason = stood.last().unwrap().reason.to_string();
    assert_eq!(outage.standing, 6);
    assert!(reason.contains("stand still for 5 min"), "{reason}");
}
