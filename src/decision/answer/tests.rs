//! Answers about lag while probes fail, and without a lease table.

use jiff::SignedDuration;
use tokio::time::{Instant, advance};
use tonic::Code;

use super::*;
use crate::{
    error::SourceErrorKind,
    source::{
        probe::Verdict,
        snapshot::{
            LeaseSnapshot,
            examples::{caught_up, lag_trigger},
        },
    },
    trigger::{ScaleOn, Trigger},
};

const MAX_STALE: Duration = Duration::from_secs(60);

fn answer(snapshot: &ApplicationSnapshot) -> Result<Answer, Error> {
    answer_with(OnMissingTable::Activate, snapshot)
}

fn answer_with(
    on_missing_table: OnMissingTable,
    snapshot: &ApplicationSnapshot,
) -> Result<Answer, Error> {
    answer_after(on_missing_table, snapshot, &Decisions::default())
}

fn answer_after(
    on_missing_table: OnMissingTable,
    snapshot: &ApplicationSnapshot,
    before: &Decisions,
) -> Result<Answer, Error> {
    let Trigger {
        stream,
        scale_on: ScaleOn::Application(work),
        shard_count,
    } = lag_trigger(30)
    else {
        panic!("not of an application");
    };
    let work = Work {
        on_missing_table,
        ..work
    };
    let question = Question {
        stream: &stream,
        work: &work,
        shard_count,
        max_stale: MAX_STALE,
    };
    answer_application(&question, snapshot, before)
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_believed_when_it_is_seen_twice() {
    use SourceErrorKind::{AccessDenied, Timeout};
    for failures in [
        &[][..],
        &[AccessDenied],
        &[Timeout, AccessDenied],
        &[AccessDenied, Timeout, AccessDenied],
    ] {
        let answer = answer(&caught_up(1, failures));
        assert!(answer.is_ok(), "{failures:?}: {answer:?}");
    }
    for failures in [
        &[AccessDenied, AccessDenied][..],
        &[Timeout, AccessDenied, AccessDenied],
    ] {
        let error = answer(&caught_up(1, failures)).unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{failures:?}");
    }
}

/// The verdict of this shard is so many seconds older than the snapshot.
fn age(snapshot: &mut ApplicationSnapshot, shard: usize, seconds: i64) {
    let as_of = snapshot.time - SignedDuration::from_secs(seconds);
    snapshot.shards[shard].probe.as_mut().unwrap().as_of = Some(as_of);
}

/// This shard has an unread record.
fn unread(snapshot: &mut ApplicationSnapshot, shard: usize) {
    let verdict = Verdict::Unread {
        since: snapshot.time,
        expired: false,
    };
    snapshot.shards[shard].probe.as_mut().unwrap().verdict = Some(verdict);
}

#[tokio::test(start_paused = true)]
async fn verdicts_stand_in_for_max_stale() {
    let mut failing = caught_up(1, &[SourceErrorKind::Timeout]);
    age(&mut failing, 0, 60);
    assert!(answer(&failing).is_ok());
    age(&mut failing, 0, 61);
    let error = answer(&failing).unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_makes_no_lease_in_ten_minutes_is_an_error_with_the_likely_typo() {
    for (table, found) in [
        (Table::Missing, "there is no lease table billing in"),
        (no_leases(), "billing in eu-west-1 has no lease of orders"),
    ] {
        let snapshot = ApplicationSnapshot {
            table,
            no_leases_since: Some(Instant::now()),
            ..caught_up(1, &[])
        };
        advance(LEASES_ARE_MADE_WITHIN).await;
        let answer = answer(&snapshot).unwrap();
        assert_eq!((answer.value, answer.active), (1, true));
        advance(Duration::from_secs(1)).await;
        let error = answer_with(OnMissingTable::Activate, &snapshot).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        for part in [
            found,
            "since 10 min",
            "applicationName \"billing\"",
            "leaseTableRegion",
        ] {
            assert!(error.to_string().contains(part), "{part} is not in {error}");
        }
        // Nobody was asked to make it.
        let idle = answer_with(OnMissingTable::Idle, &snapshot).unwrap();
        assert_eq!((idle.value, idle.active), (0, false));
    }
}

fn no_leases() -> Table {
    Table::Read {
        leases: 0,
        unlisted: 0,
        others: 0,
        older: 0,
        malformed: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_emptied_takes_no_pods_away() {
    let leases = |number: usize| right_sizing::ShardObservation {
        id: number.to_string(),
        owner: Some(format!("pod-{number}")),
        ..right_sizing::ShardObservation::default()
    };
    let observation = right_sizing::Observation {
        at_ms: 1_700_000_000_000,
        shards: (0..3).map(leases).collect(),
        ..right_sizing::Observation::default()
    };
    let settings = memories::settings(&lag_trigger(30)).unwrap();
    let decision = memories::decide_first(settings, &observation);
    let before: Decisions = [(settings, decision)].into_iter().collect();
    let emptied = ApplicationSnapshot {
        table: no_leases(),
        ..caught_up(3, &[])
    };
    for (before, replicas) in [(before, 3), (Decisions::default(), 1)] {
        let answer = answer_after(OnMissingTable::Activate, &emptied, &before).unwrap();
        assert_eq!((answer.value, answer.active), (replicas, true));
    }
}

#[tokio::test(start_paused = true)]
async fn one_shard_does_not_block_the_others() {
    // Of four shards one has no verdict, or one that is too old.
    for is_old in [false, true] {
        let mut snapshot = caught_up(4, &[]);
        if is_old {
            age(&mut snapshot, 3, 61);
        } else {
            snapshot.shards[3].probe.as_mut().unwrap().verdict = None;
        }
        // It may have the one record that is unread.
        let error = answer(&snapshot).unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(
            error.to_string().contains("1 of 4 readable shards"),
            "{error}"
        );
        unread(&mut snapshot, 0);
        let answer = answer(&snapshot).unwrap();
        assert_eq!((answer.value, answer.active), (1, true));
        assert!(
            answer.reason.starts_with("1 of 4 shards are not known"),
            "{}",
            answer.reason
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_old_verdicts_and_of_none_nothing_is_said() {
    let mut old = caught_up(4, &[]);
    unread(&mut old, 0);
    (1..3).for_each(|shard| age(&mut old, shard, 61));
    assert!(answer(&old).is_ok(), "half of them");
    age(&mut old, 3, 61);
    let error = answer(&old).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("3 of 4 readable shards is too old"),
        "{error}"
    );

    let mut none = caught_up(2, &[]);
    for shard in &mut none.shards {
        shard.probe.as_mut().unwrap().verdict = None;
    }
    assert_eq!(answer(&none).unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn who_was_looked_at_once_is_not_answered_for() {
    let mut snapshot = caught_up(1, &[]);
    unread(&mut snapshot, 0);
    snapshot.is_first_look = true;
    assert_eq!(answer(&snapshot).unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_latest_is_said() {
    let mut snapshot = caught_up(1, &[]);
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    snapshot.lag.as_mut().unwrap().latest = Some((2, since));
    let reason = answer(&snapshot).unwrap().reason;
    let latest = "2 at LATEST without a checkpoint: known since 2026-01-02T03:04:05Z";
    assert!(reason.ends_with(latest), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn an_initial_timestamp_that_is_to_come_is_said() {
    let mut trigger = lag_trigger(30);
    let mut snapshot = caught_up(2, &[]);
    snapshot.shards[0].lease = Some(LeaseSnapshot {
        owner: None,
        live: false,
        confirmed: false,
        checkpoint: Checkpoint::AtTimestamp,
        busy: None,
    });
    for (since, is_said) in [
        ("2020-01-01T00:00:00Z", false),
        ("2999-01-01T00:00:00Z", true),
    ] {
        let ScaleOn::Application(work) = &mut trigger.scale_on else {
            panic!("not of an application");
        };
        work.initial_timestamp = since.parse().ok();
        let question = Question {
            stream: &trigger.stream,
            work,
            shard_count: 1,
            max_stale: MAX_STALE,
        };
        let answer = answer_application(&question, &snapshot, &Decisions::default()).unwrap();
        let said = "1 at AT_TIMESTAMP: nothing counts before initialTimestamp 2999-01-01T00:00:00Z, which is still to come";
        assert_eq!(answer.reason.contains(said), is_said, "{}", answer.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn ages_are_by_the_clock_of_aws() {
    let mut snapshot = caught_up(1, &[]);
    unread(&mut snapshot, 0);
    for ahead in [-35, 0, 35] {
        snapshot.aws_ahead = Some(SignedDuration::from_secs(ahead));
        let answer = answer(&snapshot).unwrap();
        let age_ms = answer.decision.unwrap().shards[0].age_ms.unwrap();
        assert_eq!(age_ms, 1000 * ahead.max(0).unsigned_abs());
    }
}
