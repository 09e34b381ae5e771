//! Pods that hold leases by load: one with a hot shard and little else, the others with the rest.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use right_sizing::{Decision, Step};
use support::{Day, reads};

/// Twelve shards, of which `pod-0` holds the first `few`, and `pods - 1` the others in turn; each
/// pod is as busy as `busy` says. Until the wish changes, or for twelve minutes.
fn wished(few: usize, busy: &[f64]) -> Decision {
    let others = busy.len() - 1;
    let pod_of = |shard: usize| match shard < few {
        true => 0,
        false => 1 + shard % others,
    };
    let mut day = Day::new(12, busy.len());
    for (number, shard) in day.seen.shards.iter_mut().enumerate() {
        shard.owner = Some(format!("pod-{}", pod_of(number)));
    }
    day.look(1, |number, shard, at_ms| {
        shard.busy = Some(busy[pod_of(number)]);
        reads(shard, at_ms);
    });
    let looks = day.look(48, |_, shard, at_ms| reads(shard, at_ms));
    let changed = looks.iter().find(|it| it.step != Step::Hold);
    changed.or(looks.last()).unwrap().clone()
}

#[test]
fn one_busy_pod_is_no_reason_for_a_pod_for_each_of_its_shards() {
    // By number, 2 shards and 97 % busy are 12 pods.
    let decision = wished(2, &[0.97, 0.75, 0.7]);
    let said = decision.reason.to_string();
    assert_eq!((decision.step, decision.replicas), (Step::Out, 4), "{said}");
    assert_eq!(
        said,
        "a pod with 2 shards is 97 % busy, all together as 2.4 pods; so 4 pods"
    );
}

#[test]
fn all_that_are_too_busy_get_as_many_more_as_their_work_needs() {
    let decision = wished(1, &[0.99, 0.99, 0.99, 0.99, 0.99, 0.99]);
    // 5.94 pods' work, at most 85 % each.
    let said = decision.reason.to_string();
    assert_eq!((decision.step, decision.replicas), (Step::Out, 7), "{said}");
}

#[test]
fn fewer_pods_are_as_many_as_their_work_needs() {
    // The pod with most has 10 shards at 30 %: by number, nine pods go.
    let decision = wished(2, &[0.8, 0.3, 0.3, 0.3]);
    let said = decision.reason.to_string();
    assert_eq!((decision.step, decision.replicas), (Step::In, 2), "{said}");
    let decision = wished(2, &[0.8, 0.5, 0.5]);
    let said = decision.reason.to_string();
    assert_eq!(
        (decision.step, decision.replicas),
        (Step::Hold, 3),
        "{said}"
    );
}

#[test]
fn a_hot_shard_alone_on_its_pod_is_not_relieved() {
    let decision = wished(1, &[0.99, 0.8, 0.8]);
    let said = decision.reason.to_string();
    assert_eq!(
        (decision.step, decision.replicas),
        (Step::Hold, 3),
        "{said}"
    );
}

/// The first step after `pod-0`, which holds two of twelve shards, gains less than there comes.
fn wished_when_late(gain: f64, busy: &[Option<f64>]) -> Decision {
    let others = busy.len() - 1;
    let pod_of = |shard: usize| if shard < 2 { 0 } else { 1 + shard % others };
    let says = |shard: usize, most: f64| busy[pod_of(shard)].map(|busy| busy.min(most));
    let mut day = Day::new(12, busy.len());
    for (number, shard) in day.seen.shards.iter_mut().enumerate() {
        shard.owner = Some(format!("pod-{}", pod_of(number)));
    }
    day.look(16, |number, shard, at_ms| {
        shard.busy = says(number, 0.8);
        reads(shard, at_ms);
    });
    let began_ms = day.seen.at_ms;
    let looks = day.look(40, |number, shard, at_ms| {
        reads(shard, at_ms);
        if number < 2 {
            let read_ms = began_ms + ((at_ms - began_ms) as f64 * gain) as u64;
            reads(shard, read_ms);
        }
        shard.busy = says(number, 1.0);
    });
    let out = looks.iter().find(|it| it.step == Step::Out);
    out.or(looks.last()).unwrap().clone()
}

#[test]
fn a_late_pod_is_no_reason_for_a_pod_for_each_of_its_shards() {
    // By number it carries one shard, so twelve pods.
    let decision = wished_when_late(0.8, &[Some(1.0), Some(0.75), Some(0.7)]);
    let said = decision.reason.to_string();
    assert_eq!((decision.step, decision.replicas), (Step::Out, 4), "{said}");
    assert_eq!(
        said,
        "late: shard 1 is 19 s old and gains 0.8 s a second; its pod carries 1.6 of 2 shards; so 4 pods"
    );
    // Where not all say how busy they are, nothing is known of their work together.
    let decision = wished_when_late(0.8, &[Some(1.0), None, Some(0.7)]);
    let said = decision.reason.to_string();
    assert_eq!(
        (decision.step, decision.replicas),
        (Step::Out, 12),
        "{said}"
    );
}
