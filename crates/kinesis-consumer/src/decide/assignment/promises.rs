//! Which requests for leases their holders grant.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Observations, Workers};
use crate::{
    decide::placement::{NOISE, Verdict, judge},
    model::{keys::LeaseKey, lease::Lease},
};

/// What a worker that asks says that it has, with what it asked for before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Has {
    /// Unfinished leases.
    pub(crate) leases: u64,
    /// How busy it is with them, in thousandths. `None`: it deals leases by number.
    pub(crate) load: Option<u64>,
}

impl Has {
    /// With the lease, too.
    pub(crate) fn with(self, lease: &Lease) -> Self {
        Self {
            leases: self.leases.saturating_add(1),
            load: self.load.map(|load| load + lease.share()),
        }
    }

    /// The more of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            leases: self.leases.max(other.leases),
            load: self.load.max(other.load),
        }
    }

    /// Does the asker's request say more than this, so that its holder may refuse it?
    pub(crate) fn is_overstated(self, request: &Lease) -> bool {
        let said = request.handover_load.zip(self.load);
        request.handover_has > Some(self.leases)
            || said.is_some_and(|(said, load)| said >= load + NOISE)
    }
}

/// Do all who hold leases deal them by load? While one does not, all deal by number. `held`:
/// leases with their holders.
pub(crate) fn deal_by_load(held: &[(&Lease, &str)]) -> bool {
    let says = |lease: &Lease| lease.is_native() && lease.share_permille.is_some();
    held.iter().all(|(lease, _)| says(lease))
}

/// What each worker has, in number and in load, as one request after another is granted. All who
/// judge requests judge by it: holders, those who asked, and those who look on.
pub(crate) struct Ledger<'a> {
    by_load: bool,
    parts: BTreeMap<&'a str, (u64, u64)>,
}

impl<'a> Ledger<'a> {
    /// `held`: leases with their holders.
    pub(crate) fn new(held: &[(&'a Lease, &'a str)], by_load: bool) -> Self {
        let mut parts = BTreeMap::<_, (u64, u64)>::new();
        for (lease, holder) in held {
            let (leases, load) = parts.entry(*holder).or_default();
            (*leases, *load) = (*leases + 1, *load + lease.share());
        }
        Self { by_load, parts }
    }

    /// The order in which requests are judged: who has least first, as it may have asked for
    /// several.
    pub(crate) fn rank<'b>(&self, request: &'b Lease) -> (Option<u64>, Option<u64>, &'b LeaseKey) {
        let load = request.handover_load.filter(|_| self.by_load);
        (load, request.handover_has, &request.key)
    }

    /// What the asker has: what it says of itself is newer than what was seen of it.
    pub(crate) fn said(&self, request: &Lease, asker: &str) -> Has {
        let (seen, _) = self.parts.get(asker).copied().unwrap_or_default();
        Has {
            leases: request.handover_has.unwrap_or(seen),
            load: request.handover_load,
        }
    }

    /// Makes the holder's lease the asker's, who has so much, if all is more even then.
    pub(crate) fn grant(&mut self, lease: &Lease, holder: &str, asker: &'a str, has: Has) -> bool {
        let Some((leases, load)) = self.parts.get_mut(holder) else {
            return false;
        };
        let share = lease.share();
        let said = has.load.filter(|_| self.by_load);
        let is_granted = match said.map(|poor| judge(*load, poor, share)) {
            Some(Verdict::Granted) => true,
            Some(Verdict::Refused) => false,
            Some(Verdict::ByNumber) | None => *leases >= has.leases.saturating_add(2),
        };
        if is_granted {
            // It may have said less of itself, as an asker, than it holds.
            *leases = leases.saturating_sub(1);
            *load = load.saturating_sub(share);
            let (leases, load) = self.parts.entry(asker).or_default();
            *leases = has.leases.saturating_add(1);
            *load = has.load.unwrap_or(*load) + share;
        }
        is_granted
    }
}

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
    let mut ledger = Ledger::new(held, deal_by_load(held));
    let workers = Workers::of(held.iter().map(|(lease, _)| *lease), observations, now);
    asked.retain(|(lease, _, asker)| !workers.is_gone(asker, lease, observations));
    asked.sort_by_key(|(lease, _, _)| ledger.rank(lease));
    let granted = asked.into_iter().filter(|(lease, holder, asker)| {
        let has = ledger.said(lease, asker);
        ledger.grant(lease, holder, asker, has)
    });
    granted
        .map(|(lease, _, asker)| (&lease.key, asker))
        .collect()
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
    /// `c` for the third and says that it has one. `"a:300>c1:120"`: it takes 300 thousandths of
    /// `a`'s time, and `c` is as busy as 120.
    fn leases(table: &str) -> Vec<Lease> {
        let lease = |(index, text): (usize, &str)| {
            let (holder, to) = match text.split_once('>') {
                Some((holder, to)) => (holder, Some(to)),
                None => (text, None),
            };
            let (holder, share) = holder.split_once(':').unwrap_or((holder, ""));
            let is_native = holder.chars().all(char::is_lowercase);
            let to = to.map(|to| to.split_once(':').unwrap_or((to, "")));
            let load = to.and_then(|(_, load)| load.parse().ok());
            let to = to.map(|(to, _)| to.split_at(to.trim_end_matches(char::is_numeric).len()));
            Lease {
                owner: Some(holder.to_owned()),
                native_counter: is_native.then_some(0),
                native_process: is_native.then(|| format!("process of {holder}")),
                handover_to: to.map(|(to, _)| to.to_owned()),
                handover_has: to.and_then(|(_, has)| has.parse().ok()),
                handover_load: load,
                share_permille: share.parse().ok(),
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
    #[case::by_load("a:300 a:300>b1:0 b:0", &["s1"])]
    #[case::not_who_is_as_busy("a:10>b0:500 a:10 a:10", &[])]
    #[case::not_more_than_shrinks_the_spread("a:300>c0:0 a:300>b0:300 a:100", &["s0"])]
    #[case::who_has_least_to_do_first("a:300>b0:200 a:300>c5:100", &["s1"])]
    #[case::what_comes_adds_to_its_load("a:200>b0:0 a:200>b1:200 a:200>b2:400", &["s0", "s1"])]
    #[case::by_number_where_nobody_does_much("a:9>b0:0 a:9>b1:9 a:9>b2:18 a:9", &["s0", "s1"])]
    #[case::who_says_no_load_is_judged_by_number("a:300>b0 a:300>c0:0 a:300 a:9", &["s0", "s1"])]
    #[case::and_takes_its_lease_out_of_the_load("a:300>b0 a:300>c0:200 a:9", &["s0"])]
    #[case::while_one_counts_all_are_judged_by_number("a:300 a:300>b1:0 b:0 c", &[])]
    #[case::who_said_less_than_it_has("a:400>x0:0 x:80>y1:100 x:80>z1:120", &["s0", "s1", "s2"])]
    #[case::java_counts("a:300 a:300>b1:0 b:0 J", &[])]
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
