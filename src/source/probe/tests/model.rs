//! A shard's life against a brute-force model.

use std::collections::BTreeSet;

use super::*;

/// A shard that holds these records, and answers like Kinesis: a page goes over so many places,
/// full or not.
#[derive(Clone, Debug)]
struct Shard {
    records: BTreeSet<u64>,
    tip: u64,
    closed: bool,
    page: u64,
}

impl Shard {
    fn peek(&self, from: u64) -> Peek {
        let to = (from + self.page).min(self.tip + 1);
        let found = self.records.range(from..to).next();
        let goes_on = found.map_or(to, |found| found + 1);
        let is_end = self.closed && found.is_none() && goes_on > self.tip;
        Peek {
            last_sub: 0,
            record: found.map(|place| (number(*place), Some(time(*place as i64)))),
            next_iterator: (!is_end).then(|| goes_on.to_string()),
            millis_behind_latest: (self.tip + 1 - goes_on) as i64 * 10_000,
        }
    }

    fn place(&self, next: &Next) -> u64 {
        match next {
            Next::At(iterator) => iterator.parse().unwrap(),
            Next::From(StartFrom::AfterSequenceNumber(number)) => {
                number.as_str().parse::<u64>().unwrap() + 1
            }
            Next::From(_) => 1,
        }
    }
}

proptest::proptest! {
    #[test]
    fn verdicts_are_what_counting_the_records_says(
        records in proptest::collection::btree_set(1u64..60, 0..20),
        checkpoints in proptest::collection::vec(0u64..60, 1..6),
        closed: bool,
        page in 1u64..20,
    ) {
        let shard = Shard { records, tip: 60, closed, page };
        let mut checkpoints = checkpoints;
        checkpoints.sort_unstable();
        let of = |place: u64| lease(if place == 0 { Checkpoint::TrimHorizon } else { at(place, 0) });
        let mut probe = Probe::new(Some(&of(checkpoints[0])), None, closed);
        for place in checkpoints {
            probe.follow(Some(&of(place)), None, closed);
            // Enough refreshes to walk the shard from end to end in the smallest pages.
            for _ in 0..70 {
                let Some(next) = probe.ask(time(NOW)) else { break };
                probe.answered(shard.peek(shard.place(&next)), time(NOW));
            }
            let first = shard.records.range(place + 1..).next();
            let want = match first {
                Some(first) => Verdict::Unread { since: time(*first as i64), expired: false },
                None if closed => Verdict::Drained,
                None => Verdict::CaughtUp,
            };
            proptest::prop_assert_eq!(probe.verdict(), Some(&want));
        }
    }
}
