//! Ranges of hash keys: both ends belong to a range, and the last key is 2^128 - 1.

use md5::{Digest, Md5};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HashRange {
    pub(crate) start: u128,
    pub(crate) end: u128,
}

impl HashRange {
    pub(crate) fn contains(self, key: u128) -> bool {
        self.start <= key && key <= self.end
    }

    /// Whether `other` begins right after this range; the last range has nothing after it.
    pub(crate) fn touches(self, other: Self) -> bool {
        self.end.checked_add(1) == Some(other.start)
    }

    /// `at` is the first key of the right piece: greater than `start`, at most `end`.
    pub(crate) fn cut(self, at: u128) -> (Self, Self) {
        debug_assert!(
            self.start < at && at <= self.end,
            "{at} cuts nothing off {self:?}"
        );
        (
            Self {
                start: self.start,
                end: at - 1,
            },
            Self {
                start: at,
                end: self.end,
            },
        )
    }

    /// `n` ranges of one size (the last takes the rest) over all keys.
    pub(crate) fn uniform(n: usize) -> Vec<Self> {
        let n = n.max(1) as u128;
        // 2^128 / n without 2^128.
        let size = u128::MAX / n + u128::from(n > 1 && u128::MAX % n == n - 1);
        (0..n)
            .map(|i| Self {
                start: i * size,
                end: if i + 1 == n {
                    u128::MAX
                } else {
                    (i + 1) * size - 1
                },
            })
            .collect()
    }
}

/// Where a partition key falls.
pub(crate) fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_ranges_cover_all_keys_once() {
        for n in [1, 2, 3, 4, 5, 7, 8, 16, 100, 500, 10_000] {
            let ranges = HashRange::uniform(n);
            assert_eq!(ranges.len(), n);
            assert_eq!(ranges[0].start, 0);
            assert_eq!(ranges[n - 1].end, u128::MAX);
            assert!(
                ranges.windows(2).all(|pair| pair[0].touches(pair[1])),
                "{n}"
            );
        }
    }

    /// What AWS shows for two and three shards.
    #[test]
    fn the_ends_are_those_of_aws() {
        assert_eq!(
            HashRange::uniform(2)[1].start,
            170_141_183_460_469_231_731_687_303_715_884_105_728
        );
        assert_eq!(
            HashRange::uniform(3)[1].start,
            113_427_455_640_312_821_154_458_202_477_256_070_485
        );
    }

    #[test]
    fn the_last_range_touches_nothing() {
        let [first, last] = HashRange::uniform(2)[..] else {
            unreachable!()
        };
        assert!(first.touches(last));
        assert!(!last.touches(first));
    }

    #[test]
    fn md5_as_a_big_endian_number() {
        assert_eq!(hash_key(""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
    }
}
