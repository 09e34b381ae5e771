//! A shard: a range of hash keys, where it came from, and its records in order.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::hash::HashRange;
use crate::limits::ShardLimits;
use crate::protocol::Stored;
use crate::sequence::{self, Digits, Sequence};

#[derive(Debug)]
pub(crate) struct Record {
    /// Milliseconds since the epoch.
    pub(crate) arrival: u64,
    pub(crate) sequence: Digits,
    pub(crate) partition_key: Box<str>,
    pub(crate) data: Stored,
}

impl Record {
    /// What AWS counts: the blob and the partition key.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// The shards a shard was made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parents {
    pub(crate) parent: Option<u32>,
    pub(crate) adjacent: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) number: u32,
    pub(crate) parents: Parents,
    pub(crate) range: HashRange,
    /// Milliseconds since the epoch.
    pub(crate) opened: u64,
    pub(crate) closed: Option<u64>,
    /// The second its sequence numbers begin with: after that of its parents.
    pub(crate) created_second: u64,
    pub(crate) limits: ShardLimits,
    /// Wakes who waits for a record, or for the end.
    pub(crate) changed: Arc<Notify>,
    records: VecDeque<Arc<Record>>,
    /// Number in the shard of the oldest record kept.
    first: u64,
    /// Number the next record gets.
    next: u64,
}

/// A part of a shard, from a place on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Arc<Record>>,
    /// Where to go on.
    pub(crate) next: u64,
    pub(crate) millis_behind: u64,
    /// Closed, and nothing is left after this page.
    pub(crate) at_end: bool,
}

impl Shard {
    pub(crate) fn new(
        number: u32,
        range: HashRange,
        parents: Parents,
        created_second: u64,
        now: u64,
    ) -> Self {
        Self {
            number,
            parents,
            range,
            opened: now,
            closed: None,
            created_second,
            limits: ShardLimits::new(now),
            changed: Arc::default(),
            records: VecDeque::new(),
            first: 1,
            next: 1,
        }
    }

    pub(crate) fn id(&self) -> String {
        id(self.number)
    }

    fn sequence(&self, index: u64, at: u64) -> Sequence {
        Sequence {
            created: self.created_second,
            shard: self.number,
            index,
            second: at / 1000,
        }
    }

    pub(crate) fn starting_sequence(&self) -> Digits {
        self.sequence(0, self.created_second * 1000).digits()
    }

    pub(crate) fn ending_sequence(&self) -> Option<Digits> {
        self.closed
            .map(|at| self.sequence(sequence::END, at).digits())
    }

    /// A number after all records before `next`, and before the one that gets this place. It grows
    /// while nothing is written.
    pub(crate) fn continuation(&self, next: u64, now: u64) -> Digits {
        self.sequence(next - 1, now).digits()
    }

    /// The number is given and the record stored in one go: the caller holds the stream's lock.
    pub(crate) fn append(&mut self, partition_key: Box<str>, data: Stored, now: u64) -> Digits {
        let sequence = self.sequence(self.next, now).digits();
        self.records.push_back(Arc::new(Record {
            arrival: now,
            sequence,
            partition_key,
            data,
        }));
        self.next += 1;
        self.changed.notify_waiters();
        sequence
    }

    /// Drops what arrived before `horizon`.
    pub(crate) fn trim(&mut self, horizon: u64) {
        while self
            .records
            .front()
            .is_some_and(|record| record.arrival < horizon)
        {
            self.records.pop_front();
            self.first += 1;
        }
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.first
    }

    pub(crate) fn tip(&self) -> u64 {
        self.next
    }

    /// The first record at or after a time.
    pub(crate) fn at_time(&self, at: u64) -> u64 {
        self.first + self.records.partition_point(|record| record.arrival < at) as u64
    }

    /// Where a sequence number of this shard points; `None` where it is none of this shard's.
    pub(crate) fn position(&self, sequence: Sequence) -> Option<u64> {
        let given = sequence.index < self.next
            || (self.closed.is_some() && sequence.index == sequence::END);
        (sequence.created == self.created_second && sequence.shard == self.number && given)
            .then_some(sequence.index)
    }

    /// The place of the first record whose number is this one or greater: a continuation number
    /// is its record's, or greater.
    pub(crate) fn at_or_after(&self, sequence: Sequence) -> Option<u64> {
        let at = self.position(sequence)?;
        let record = at.checked_sub(self.first);
        let record = record.and_then(|at| self.records.get(usize::try_from(at).ok()?));
        let is_past =
            record.is_some_and(|record| record.sequence.as_str() < sequence.digits().as_str());
        Some(if is_past { at + 1 } else { at })
    }

    /// At most `limit` records and, after the first, at most `max_bytes` bytes.
    pub(crate) fn read(&self, from: u64, limit: usize, max_bytes: usize, now: u64) -> Page {
        let from = from.max(self.first);
        let skip = usize::try_from(from - self.first)
            .unwrap_or(usize::MAX)
            .min(self.records.len());
        let mut bytes = 0;
        let mut records = Vec::new();
        for record in self.records.range(skip..).take(limit) {
            bytes += record.size();
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push(Arc::clone(record));
        }
        let next = from + records.len() as u64;
        let more = self.records.get(skip + records.len());
        let millis_behind = more.map_or(0, |unread| {
            let reached = records.last().map_or(unread.arrival, |last| last.arrival);
            now.saturating_sub(reached).max(1)
        });
        Page {
            records,
            next,
            millis_behind,
            at_end: more.is_none() && self.closed.is_some(),
        }
    }
}

pub(crate) fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The number of a shard ID; `None` where it can be none of ours.
pub(crate) fn number(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-")?;
    (digits.len() == 12 && digits.bytes().all(|it| it.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        Shard::new(
            3,
            HashRange::uniform(1)[0],
            Parents::default(),
            1000,
            1_000_000,
        )
    }

    fn put(shard: &mut Shard, size: usize, at: u64) {
        shard.append("k".into(), Stored::Raw(vec![0; size].into()), at);
    }

    #[test]
    fn pages_are_cut_by_count_and_by_bytes() {
        let mut shard = shard();
        for _ in 0..10 {
            put(&mut shard, 99, 1_000_000);
        }
        assert_eq!(shard.read(1, 4, 1 << 20, 1_000_000).records.len(), 4);
        assert_eq!(shard.read(1, 100, 350, 1_000_000).records.len(), 3);
        assert_eq!(
            shard.read(9, 100, 10, 1_000_000).records.len(),
            1,
            "never an empty page while there is more"
        );
        assert_eq!(shard.read(11, 100, 10, 1_000_000).records.len(), 0);
    }

    #[test]
    fn behind_is_the_age_of_what_was_read_last() {
        let mut shard = shard();
        put(&mut shard, 1, 1_000_000);
        put(&mut shard, 1, 1_002_000);
        let page = shard.read(1, 1, 1 << 20, 1_005_000);
        assert_eq!((page.millis_behind, page.at_end), (5000, false));
        let page = shard.read(page.next, 1, 1 << 20, 1_005_000);
        assert_eq!((page.millis_behind, page.at_end), (0, false));
        shard.closed = Some(1_004_000);
        let page = shard.read(2, 1, 1 << 20, 1_009_000);
        assert_eq!((page.millis_behind, page.at_end), (0, true));
    }

    #[test]
    fn trimmed_records_are_passed_over() {
        let mut shard = shard();
        for at in [1_000_000, 1_001_000, 1_002_000] {
            put(&mut shard, 1, at);
        }
        shard.trim(1_001_500);
        let page = shard.read(1, 10, 1 << 20, 1_002_000);
        assert_eq!(page.records.len(), 1);
        assert_eq!(page.next, 4);
        assert_eq!(shard.at_time(0), 3);
        assert_eq!(shard.at_time(1_002_001), 4);
    }

    #[test]
    fn only_own_sequence_numbers_have_a_place() {
        let mut shard = shard();
        put(&mut shard, 1, 1_000_000);
        let own =
            Sequence::parse(shard.read(1, 1, 1, 1_000_000).records[0].sequence.as_str()).unwrap();
        assert_eq!(shard.position(own), Some(1));
        assert_eq!(shard.position(Sequence { index: 2, ..own }), None);
        assert_eq!(shard.position(Sequence { shard: 4, ..own }), None);
        assert_eq!(
            shard.position(Sequence {
                created: 999,
                ..own
            }),
            None
        );
        assert_eq!(
            shard.position(Sequence {
                index: sequence::END,
                ..own
            }),
            None
        );
        shard.closed = Some(1_000_000);
        assert_eq!(
            shard.position(Sequence {
                index: sequence::END,
                ..own
            }),
            Some(sequence::END)
        );
    }

    #[test]
    fn ids() {
        assert_eq!(number(&id(17)), Some(17));
        for wrong in [
            "shardId-17",
            "17",
            "shardId-00000000001x",
            "shardId-+00000000017",
            "shardId-999999999999",
        ] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
