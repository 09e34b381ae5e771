//! Every row of what may be found after a checkpoint.

use kinesis_consumer::{Position as Place, SequenceNumber};
use rstest::rstest;

use super::*;

mod model;
mod starts;
mod walks;

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
fn a_record_without_an_arrival_time_is_new() {
    let mut probe = probe(at(5, 0));
    let mut peek = record(6, 0);
    peek.record = Some((number(6), None));
    probe.refresh(after(5), peek);
    assert_eq!(probe.verdict().cloned(), unread(NOW));
}
