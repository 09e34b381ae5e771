//! UpdateShardCount as AWS describes it: a plan of single splits and merges.
//!
//! Every open range is cut at each boundary of the wanted uniform ranges, then the pieces of one
//! wanted range are merged. Pieces that are merged again are the "short-lived shards".

use crate::hash::HashRange;

/// One step on open shards, which are told by their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Split {
        range: HashRange,
        at: u128,
    },
    Merge {
        shard: HashRange,
        adjacent: HashRange,
    },
}

/// From `open` (in order of hash keys, covering all) to `target` uniform ranges.
pub(crate) fn plan(open: &[HashRange], target: usize) -> Vec<Step> {
    let wanted = HashRange::uniform(target);
    let mut steps = Vec::new();
    let mut pieces = Vec::new();
    for &range in open {
        let mut rest = range;
        for boundary in wanted.iter().map(|it| it.start) {
            if rest.start < boundary && boundary <= rest.end {
                steps.push(Step::Split {
                    range: rest,
                    at: boundary,
                });
                let (left, right) = rest.cut(boundary);
                pieces.push(left);
                rest = right;
            }
        }
        pieces.push(rest);
    }
    for range in wanted {
        let mut of_this = pieces.iter().filter(|piece| range.contains(piece.start));
        let Some(&(mut left)) = of_this.next() else {
            continue;
        };
        for &right in of_this {
            steps.push(Step::Merge {
                shard: left,
                adjacent: right,
            });
            left.end = right.end;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn apply(mut open: Vec<HashRange>, steps: &[Step]) -> Vec<HashRange> {
        for step in steps {
            match *step {
                Step::Split { range, at } => {
                    let i = open
                        .iter()
                        .position(|it| *it == range)
                        .expect("the range is open");
                    let (left, right) = range.cut(at);
                    open.splice(i..=i, [left, right]);
                }
                Step::Merge {
                    shard: left,
                    adjacent: right,
                } => {
                    let i = open
                        .iter()
                        .position(|it| *it == left)
                        .expect("the left range is open");
                    assert_eq!(open[i + 1], right);
                    assert!(left.touches(right));
                    open.splice(
                        i..=i + 1,
                        [HashRange {
                            start: left.start,
                            end: right.end,
                        }],
                    );
                }
            }
        }
        open
    }

    #[rstest]
    #[case(1, 2, 1, 0)]
    #[case(2, 4, 2, 0)]
    #[case(4, 2, 0, 2)]
    #[case(2, 3, 2, 1)]
    #[case(3, 2, 1, 2)]
    #[case(4, 3, 2, 3)]
    #[case(3, 3, 0, 0)]
    fn splits_and_merges(
        #[case] from: usize,
        #[case] to: usize,
        #[case] splits: usize,
        #[case] merges: usize,
    ) {
        let steps = plan(&HashRange::uniform(from), to);
        let split = steps
            .iter()
            .filter(|step| matches!(step, Step::Split { .. }))
            .count();
        assert_eq!((split, steps.len() - split), (splits, merges));
    }

    proptest! {
        /// From any cover to any count.
        #[test]
        fn ends_uniform(mut cuts in prop::collection::btree_set(1..=u128::MAX, 0..20), to in 1_usize..60) {
            let mut open = Vec::new();
            let mut start = 0;
            while let Some(cut) = cuts.pop_first() {
                open.push(HashRange { start, end: cut - 1 });
                start = cut;
            }
            open.push(HashRange { start, end: u128::MAX });
            let steps = plan(&open, to);
            prop_assert_eq!(apply(open, &steps), HashRange::uniform(to));
        }
    }
}
