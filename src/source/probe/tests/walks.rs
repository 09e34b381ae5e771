//! Pages that are followed one after the other, and calls that fail on the way.

use super::*;

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
