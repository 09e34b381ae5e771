//! Every row of what may be found after a checkpoint, by table; and a shard's life against a
//! brute-force model.

use std::collections::BTreeSet;

use kinesis_consumer::{Position as Place, SequenceNumber};
use rstest::rstest;

use super::*;

const NOW: i64 = 1_000_000;

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn number(number: u64) -> SequenceNumber {
    number.to_string().parse().unwrap()
}

fn at(sequence: u64, sub: u64) -> Checkpoint {
    Checkpoint::At(Place {
        sequence_number: number(sequence),
        sub_sequence_number: sub,
    })
}

fn lease(checkpoint: Checkpoint) -> Lease {
    Lease::new("shardId-0", checkpoint)
}

fn probe(checkpoint: Checkpoint) -> Probe {
    Probe::new(Some(&lease(checkpoint)), None, false)
}

fn record(sequence: u64, arrival: i64) -> Peek {
    Peek {
        record: Some((number(sequence), Some(time(arrival)))),
        last_sub: 0,
        next_iterator: Some("next".to_owned()),
        millis_behind_latest: 0,
    }
}

fn empty(behind: i64) -> Peek {
    Peek {
        record: None,
        last_sub: 0,
        next_iterator: Some("next".to_owned()),
        millis_behind_latest: behind,
    }
}

fn end() -> Peek {
    Peek {
        record: None,
        last_sub: 0,
        next_iterator: None,
        millis_behind_latest: 0,
    }
}

fn unread(since: i64) -> Option<Verdict> {
    Some(Verdict::Unread {
        since: time(since),
        expired: false,
    })
}

fn after(sequence: u64) -> Option<Next> {
    Some(Next::From(StartFrom::AfterSequenceNumber(number(sequence))))
}

const FROM_THE_OLDEST: Option<Next> = Some(Next::From(StartFrom::TrimHorizon));

fn next_page() -> Option<Next> {
    Some(Next::At("next".to_owned()))
}

impl Probe {
    /// A refresh: asks where it wants to, and gets that.
    fn refresh(&mut self, want: Option<Next>, gets: Peek) {
        assert_eq!(self.ask(time(NOW)), want);
        self.answered(gets, time(NOW));
    }
}

#[rstest]
#[case::nothing_yet(Checkpoint::TrimHorizon, FROM_THE_OLDEST)]
#[case::a_time_that_only_the_application_knows(Checkpoint::AtTimestamp, FROM_THE_OLDEST)]
#[case::a_record(at(5, 0), after(5))]
#[case::within_an_aggregate(at(5, 3), after(5))]
fn where_a_look_starts(#[case] checkpoint: Checkpoint, #[case] want: Option<Next>) {
    assert_eq!(probe(checkpoint).ask(time(NOW)), want);
}

/// A page with an aggregate of six user records.
fn aggregate(sequence: u64) -> Peek {
    Peek {
        last_sub: 5,
        ..record(sequence, 700)
    }
}

#[rstest]
#[case::within(at(5, 1), unread(700))]
#[case::all_of_it(at(5, 5), None)]
fn the_remainder_of_an_aggregate_is_unread_where_nobody_holds_the_lease(
    #[case] checkpoint: Checkpoint,
    #[case] want: Option<Verdict>,
) {
    let mut probe = probe(checkpoint);
    probe.hold(false);
    let its_own = Some(Next::From(StartFrom::AtSequenceNumber(number(5))));
    assert_eq!(probe.ask(time(NOW)), its_own);
    let mut page = aggregate(5);
    match probe.pass(&mut page) {
        Some(after) => {
            assert_eq!(Some(after), next_page());
            assert_eq!(page.record, None);
        }
        None => probe.answered(page, time(NOW)),
    }
    assert_eq!(probe.verdict(), want.as_ref());
    // Once: the next look starts behind it.
    if want.is_none() {
        assert_eq!(probe.ask(time(NOW)), after(5));
    }
}

#[test]
fn a_lease_that_nobody_holds_any_more_is_looked_at_again_once() {
    let mut probe = probe(at(5, 1));
    probe.refresh(after(5), empty(0));
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
    probe.hold(false);
    probe.refresh(
        Some(Next::From(StartFrom::AtSequenceNumber(number(5)))),
        aggregate(5),
    );
    assert_eq!(probe.verdict(), unread(700).as_ref());
    assert_eq!(probe.ask(time(NOW)), None);
}

/// The record after the checkpoint's, if that is gone.
#[test]
fn a_checkpointed_record_that_is_gone_has_no_remainder() {
    let mut probe = probe(at(5, 1));
    probe.hold(false);
    let mut page = record(7, 800);
    assert_eq!(probe.pass(&mut page), None);
    probe.answered(page, time(NOW));
    assert_eq!(probe.verdict(), unread(800).as_ref());
}

#[test]
fn a_shard_without_a_lease_is_read_from_where_it_will_be_started() {
    assert_eq!(
        Probe::new(None, None, false).ask(time(NOW)),
        FROM_THE_OLDEST
    );
    let mut probe = Probe::new(None, Some(&Checkpoint::TrimHorizon), false);
    assert_eq!(probe.ask(time(NOW)), FROM_THE_OLDEST);
    let mut probe = Probe::new(None, Some(&Checkpoint::Latest), false);
    assert_eq!(probe.ask(time(NOW)), None);
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
}

#[test]
fn nothing_is_unread_at_latest_by_definition() {
    let mut open = probe(Checkpoint::Latest);
    assert_eq!(open.ask(time(NOW)), None);
    assert_eq!(open.verdict(), Some(&Verdict::CaughtUp));
    assert_eq!(open.why(), "LATEST: nothing arrived that counts");

    let mut closed = Probe::new(Some(&lease(Checkpoint::Latest)), None, true);
    assert_eq!(closed.ask(time(NOW)), None);
    assert_eq!(closed.verdict(), Some(&Verdict::Drained));
}

#[test]
fn latest_with_a_memory_is_read_from_that_time() {
    let mut lease = lease(Checkpoint::Latest);
    lease.latest_since = Some(time(7));
    let mut probe = Probe::new(Some(&lease), None, false);
    probe.refresh(
        Some(Next::From(StartFrom::AtTimestamp(time(7)))),
        record(1, 9),
    );
    assert_eq!(probe.verdict().cloned(), unread(9));
}

#[test]
fn at_timestamp_is_read_from_the_time_that_the_trigger_repeats() {
    let from = |since| {
        let mut lease = lease(Checkpoint::AtTimestamp);
        lease.latest_since = Some(time(since));
        Probe::new(Some(&lease), None, false)
    };
    let mut past = from(7);
    past.refresh(
        Some(Next::From(StartFrom::AtTimestamp(time(7)))),
        record(1, 9),
    );
    assert_eq!(past.verdict().cloned(), unread(9));
    assert_eq!(past.why(), "a record is there after the checkpoint");

    let mut to_come = from(NOW + 1);
    assert_eq!(to_come.ask(time(NOW)), None);
    assert_eq!(to_come.verdict(), Some(&Verdict::CaughtUp));
    let next = Some(Next::From(StartFrom::AtTimestamp(time(NOW + 1))));
    assert_eq!(to_come.ask(time(NOW + 1)), next);
    let why = to_come.why();
    assert!(why.starts_with("AT_TIMESTAMP: counted from "), "{why}");
    // By Kinesis' own clock it is still to come.
    assert!(!to_come.no_iterator(&ReadError::InvalidPosition));
    assert_eq!(to_come.verdict(), Some(&Verdict::CaughtUp));
    assert_eq!(to_come.ask(time(NOW + 2)), next);
}

#[test]
fn a_record_decides_whatever_millis_behind_latest_says() {
    // The one record of the page is the last: 0 behind, and unread all the same.
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), record(6, NOW - 4_000));
    assert_eq!(probe.verdict().cloned(), unread(NOW - 4_000));
    // It stays so until the checkpoint moves: nothing to ask.
    assert_eq!(probe.ask(time(NOW)), None);
    probe.follow(Some(&lease(at(5, 0))), None, false);
    assert_eq!(probe.ask(time(NOW)), None);
}

#[test]
fn a_moved_checkpoint_calls_for_a_new_look_and_the_old_verdict_stays_meanwhile() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), record(6, 10));
    probe.follow(Some(&lease(at(6, 0))), None, false);
    assert!(probe.is_stale());
    assert_eq!(probe.about(), Some(&at(5, 0)));
    assert_eq!(probe.verdict().cloned(), unread(10));
    probe.refresh(after(6), empty(0));
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
    assert!(!probe.is_stale());
    assert_eq!(probe.about(), Some(&at(6, 0)));
}

#[test]
fn a_caught_up_shard_is_asked_every_refresh_from_where_it_was() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), empty(0));
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
    probe.refresh(next_page(), empty(0));
    probe.refresh(next_page(), record(9, 77));
    assert_eq!(probe.verdict().cloned(), unread(77));
}

#[test]
fn empty_pages_are_followed_as_long_as_they_lead_somewhere() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), empty(90_000));
    for behind in [80_000, 70_000, 60_000, 50_000, 40_000, 30_000, 20_000] {
        assert_eq!(
            probe.verdict(),
            None,
            "undecided, not behind and not caught up"
        );
        assert!(probe.is_under_way());
        probe.refresh(next_page(), empty(behind));
    }
    probe.refresh(next_page(), record(6, 1));
    assert_eq!(probe.verdict().cloned(), unread(1));
}

#[test]
fn an_old_checkpoint_on_an_idle_stream_is_caught_up() {
    let mut probe = probe(at(5, 0));
    let day = 86_400_000;
    probe.refresh(after(5), empty(day));
    for _ in 0..PINNED {
        probe.refresh(next_page(), empty(day));
    }
    // It leads nowhere: is there anything from the oldest record on?
    probe.refresh(FROM_THE_OLDEST, empty(day));
    for _ in 0..PINNED {
        assert_eq!(probe.verdict(), None);
        probe.refresh(next_page(), empty(day));
    }
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
}

#[test]
fn an_expired_checkpoint_shows_that_records_may_be_lost() {
    let mut probe = probe(at(5, 0));
    assert_eq!(probe.ask(time(NOW)), after(5));
    assert!(probe.no_iterator(&ReadError::InvalidPosition), "elsewhere");
    probe.refresh(FROM_THE_OLDEST, record(900, 3));
    let verdict = Verdict::Unread {
        since: time(3),
        expired: true,
    };
    assert_eq!(probe.verdict(), Some(&verdict));
    assert!(probe.why().contains("retention"), "{}", probe.why());
}

#[test]
fn a_checkpoint_that_is_kept_is_not_taken_for_expired() {
    let mut probe = probe(at(500, 0));
    probe.refresh(after(500), empty(9_000));
    for _ in 0..PINNED {
        probe.refresh(next_page(), empty(9_000));
    }
    // The oldest record is one that the application has read.
    probe.refresh(FROM_THE_OLDEST, record(20, 3));
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
}

#[test]
fn a_checkpoint_that_is_refused_although_older_records_are_there_is_no_verdict() {
    let mut probe = probe(at(500, 0));
    assert_eq!(probe.ask(time(NOW)), after(500));
    assert!(probe.no_iterator(&ReadError::InvalidPosition), "elsewhere");
    probe.refresh(FROM_THE_OLDEST, record(20, 3));
    assert_eq!(probe.verdict(), None);
    assert!(probe.why().contains("InvalidArgument"), "{}", probe.why());
}

#[test]
fn a_walk_that_begins_anew_is_measured_anew() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), empty(90_000));
    for behind in [60_000, 30_000] {
        probe.refresh(next_page(), empty(behind));
    }
    probe.forget_iterator();
    probe.refresh(after(5), empty(90_000));
    for behind in [85_000, 80_000, 75_000, 70_000, 65_000, 60_000] {
        probe.refresh(next_page(), empty(behind));
    }
    assert_eq!(probe.verdict(), None, "it still leads somewhere");
}

#[test]
fn a_walk_goes_on_behind_a_gap_that_was_given_up() {
    let mut probe = probe(Checkpoint::TrimHorizon);
    probe.refresh(FROM_THE_OLDEST, empty(90_000));
    for _ in 0..PINNED {
        probe.refresh(next_page(), empty(90_000));
    }
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
    probe.refresh(next_page(), record(9, 7));
    assert_eq!(probe.verdict().cloned(), unread(7));
}

#[test]
fn a_closed_shard_is_never_merely_caught_up() {
    let mut probe = Probe::new(Some(&lease(at(5, 0))), None, true);
    probe.refresh(after(5), empty(0));
    assert_eq!(probe.verdict(), Some(&Verdict::Drained));
}

#[test]
fn a_record_that_retention_may_have_taken_is_looked_for_again() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), record(6, NOW));
    let day = 86_400_000;
    assert_eq!(probe.ask(time(NOW + day - 1)), None);
    assert_eq!(probe.ask(time(NOW + day)), after(5));
    probe.answered(empty(0), time(NOW + day));
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
}

#[test]
fn a_table_made_anew_at_latest_is_looked_into_anew() {
    let mut first = lease(Checkpoint::Latest);
    first.latest_since = Some(time(1));
    let mut probe = Probe::new(Some(&first), None, false);
    probe.refresh(
        Some(Next::From(StartFrom::AtTimestamp(time(1)))),
        record(1, 2),
    );
    let mut second = lease(Checkpoint::Latest);
    second.latest_since = Some(time(50));
    probe.follow(Some(&second), None, false);
    assert!(probe.is_stale());
    probe.refresh(Some(Next::From(StartFrom::AtTimestamp(time(50)))), empty(0));
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
}

#[test]
fn a_drained_parent_is_a_unit_of_work() {
    let mut probe = Probe::new(Some(&lease(at(5, 0))), None, true);
    probe.refresh(after(5), end());
    assert_eq!(probe.verdict(), Some(&Verdict::Drained));
    assert_eq!(probe.ask(time(NOW)), None);
}

#[test]
fn a_caught_up_shard_that_closes_is_found_drained() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), empty(0));
    probe.follow(Some(&lease(at(5, 0))), None, true);
    probe.refresh(next_page(), end());
    assert_eq!(probe.verdict(), Some(&Verdict::Drained));
}

#[test]
fn a_throttled_look_changes_nothing() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), empty(0));
    assert_eq!(probe.ask(time(NOW)), next_page());
    probe.failed(&ReadError::Throttled);
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
    assert!(probe.is_stale());
    assert!(probe.why().contains("throttled"), "{}", probe.why());
    probe.refresh(next_page(), record(6, 8));
    assert_eq!(probe.verdict().cloned(), unread(8));
}

#[test]
fn a_first_look_that_is_throttled_is_no_verdict() {
    let mut probe = probe(at(5, 0));
    assert_eq!(probe.ask(time(NOW)), after(5));
    assert!(!probe.no_iterator(&ReadError::Throttled));
    assert_eq!(probe.verdict(), None);
    assert_eq!(probe.ask(time(NOW)), after(5));
}

#[test]
fn an_expired_iterator_is_replaced_from_the_checkpoint() {
    let mut probe = probe(at(5, 0));
    probe.refresh(after(5), empty(0));
    assert_eq!(probe.ask(time(NOW)), next_page());
    probe.failed(&ReadError::ExpiredIterator);
    assert_eq!(probe.verdict(), Some(&Verdict::CaughtUp));
    assert_eq!(probe.ask(time(NOW)), after(5));
}

#[test]
fn a_record_without_an_arrival_time_is_new() {
    let mut probe = probe(at(5, 0));
    let mut peek = record(6, 0);
    peek.record = Some((number(6), None));
    probe.refresh(after(5), peek);
    assert_eq!(probe.verdict().cloned(), unread(NOW));
}

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
