//! From where a shard is read.

use super::*;

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
    let why = "AT_TIMESTAMP: counted from 1970-01-01T00:00:00Z on, and a record arrived since";
    assert_eq!(past.why(), why);

    let mut to_come = from(NOW + 1);
    assert_eq!(to_come.ask(time(NOW)), None);
    assert_eq!(to_come.verdict(), Some(&Verdict::CaughtUp));
    let why = "AT_TIMESTAMP: counted from 1970-01-01T00:16:40Z on, which is still to come";
    assert_eq!(to_come.why(), why);
    let next = Some(Next::From(StartFrom::AtTimestamp(time(NOW + 1))));
    assert_eq!(to_come.ask(time(NOW + 1)), next);
}

#[test]
fn a_refused_time_is_no_expired_checkpoint() {
    for checkpoint in [Checkpoint::AtTimestamp, Checkpoint::Latest] {
        let mut lease = lease(checkpoint);
        lease.latest_since = Some(time(NOW));
        let mut probe = Probe::new(Some(&lease), None, false);
        let from = Some(Next::From(StartFrom::AtTimestamp(time(NOW))));
        assert_eq!(probe.ask(time(NOW)), from);
        assert!(!probe.no_iterator(&ReadError::InvalidPosition));
        assert_eq!(probe.verdict(), None);
        assert!(probe.why().contains("as if it were to come"));
        // By Kinesis' clock it has come, too.
        probe.refresh(from, record(1, NOW + 1));
        assert_eq!(probe.verdict().cloned(), unread(NOW + 1));
    }
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
