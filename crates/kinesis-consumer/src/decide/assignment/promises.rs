//! Which requests for leases their holders will grant.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Observations, Workers};
use crate::model::{keys::LeaseKey, lease::Lease};

/// Leases that their holders will hand over, each with the worker that asked for it. `held`: leases
/// with their holders.
///
/// A holder has what it has, whoever asks: of several requests it grants those that make it more
/// even, who has least first. The others stand for nothing, and all who look at the table see that
/// alike, those who asked as well.
pub(crate) fn promises<'a>(
    held: &[(&'a Lease, &'a str)],
    observations: &Observations,
    now: Instant,
) -> BTreeMap<&'a LeaseKey, &'a str> {
    let asked = held.iter().filter_map(|(lease, holder)| {
        let asker = lease.handover_to.as_deref().filter(|_| lease.is_native())?;
        let stands = asker != *holder && !observations.ask_is_void(lease, now);
        stands.then_some((*lease, *holder, asker))
    });
    let mut asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        return BTreeMap::new();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, holder) in held {
        *counts.entry(holder).or_default() += 1;
    }
    let workers = Workers::of(held.iter().map(|(lease, _)| *lease), observations, now);
    asked.retain(|(lease, _, asker)| !workers.is_gone(asker, lease, observations));
    // Who has least first: it may have asked for several.
    asked.sort_by_key(|(lease, _, _)| (lease.handover_has, &lease.key));
    let mut promises = BTreeMap::new();
    for (lease, holder, asker) in asked {
        // What it says of itself is newer than what was seen of it.
        let seen = counts.get(asker).copied().unwrap_or_default();
        let has = lease.handover_has.map_or(seen, |has| has as usize);
        let Some(left) = counts.get_mut(holder).filter(|left| **left >= has + 2) else {
            continue;
        };
        *left -= 1;
        counts.insert(asker, has + 1);
        promises.insert(&lease.key, asker);
    }
    promises
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use rstest::rstest;

    use super::*;
    use crate::{
        decide::assignment::{Action, Limits, plan},
        model::sequence::Checkpoint,
    };

    /// `"a a>b a>c1 J"`: leases 0 to 3, held by `a` and Java's `J`; `b` asks for the second one,
    /// `c` for the third and says that it has one.
    fn leases(table: &str) -> Vec<Lease> {
        let lease = |(index, text): (usize, &str)| {
            let (holder, to) = match text.split_once('>') {
                Some((holder, to)) => (holder, Some(to)),
                None => (text, None),
            };
            let is_native = holder.chars().all(char::is_lowercase);
            let to = to.map(|to| to.split_at(to.trim_end_matches(char::is_numeric).len()));
            Lease {
                owner: Some(holder.to_owned()),
                native_counter: is_native.then_some(0),
                native_process: is_native.then(|| format!("process of {holder}")),
                handover_to: to.map(|(to, _)| to.to_owned()),
                handover_has: to.and_then(|(_, has)| has.parse().ok()),
                ..Lease::new(format!("s{index}"), Checkpoint::TrimHorizon)
            }
        };
        table.split_whitespace().enumerate().map(lease).collect()
    }

    fn seen(leases: &[Lease]) -> (Observations, Instant) {
        let now = Instant::now();
        let mut observations = Observations::new(Duration::from_secs(10));
        observations.observe(leases, now);
        (observations, now)
    }

    #[rstest]
    #[case::nobody_asks("a a a", &[])]
    #[case::whoever_has_two_less("a>b a", &["s0"])]
    #[case::not_who_has_one_less("a>b a b", &[])]
    #[case::as_many_as_make_it_more_even("a>b0 a>b1 a>b2 a", &["s0", "s1"])]
    #[case::of_two_who_have_as_many_one("a>b a>c a b c", &["s0"])]
    #[case::who_has_least_first("a>b2 a>c1 a a", &["s1"])]
    #[case::what_it_says_is_newer_than_what_is_seen("a>b3 a>b4 a a a a b", &["s0"])]
    #[case::java_does_not_hand_over("J>b J J", &[])]
    fn a_holder_grants_what_makes_it_more_even(#[case] table: &str, #[case] want: &[&str]) {
        let leases = leases(table);
        let (observations, now) = seen(&leases);
        let held = leases.iter();
        let held: Vec<_> = held.filter_map(|it| Some((it, it.holder()?))).collect();
        let promises = promises(&held, &observations, now);
        let granted: Vec<_> = promises.keys().map(|key| key.shard.to_string()).collect();
        assert_eq!(granted, want, "{promises:?}");
    }

    /// Each would do as well for each of the poor. Where two asked the same one, it would refuse
    /// one of them.
    #[test]
    fn the_poor_who_see_the_same_ask_others_each() {
        let leases = leases("a a a a b b b b c c c c p p q q r r");
        let (observations, now) = seen(&leases);
        let asked = ["p", "q", "r"].map(|me| {
            let ours = leases.iter().filter(|lease| lease.holder() == Some(me));
            let held = ours.map(|lease| lease.key.clone()).collect();
            let limits = Limits {
                max_leases: usize::MAX,
                max_steals: 1,
            };
            let plan = plan(&leases, &observations, me, &held, limits, now);
            let [Action::Ask(key)] = &plan[..] else {
                panic!("{plan:?}");
            };
            let of = leases.iter().find(|lease| lease.key == *key).unwrap();
            of.holder().unwrap()
        });
        assert_eq!(BTreeSet::from(asked).len(), 3, "{asked:?}");
    }
}
