//! Answers about lag while probes fail, and without a lease table.

use tokio::time::{Instant, advance};
use tonic::Code;

use super::*;
use crate::{
    error::SourceErrorKind,
    source::snapshot::examples::{caught_up, lag_trigger},
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
    answer_application(&question, snapshot, &Decisions::default())
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

#[tokio::test(start_paused = true)]
async fn verdicts_stand_in_for_max_stale() {
    let failing = caught_up(1, &[SourceErrorKind::Timeout]);
    advance(MAX_STALE).await;
    assert!(answer(&failing).is_ok());
    advance(Duration::from_secs(1)).await;
    let error = answer(&failing).unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_makes_no_table_in_ten_minutes_is_an_error_with_the_likely_typo() {
    let snapshot = ApplicationSnapshot {
        table: Table::Missing {
            since: Instant::now(),
        },
        ..caught_up(1, &[])
    };
    advance(TABLE_IS_MADE_WITHIN).await;
    let answer = answer(&snapshot).unwrap();
    assert_eq!((answer.value, answer.active), (1, true));
    advance(Duration::from_secs(1)).await;
    let error = answer_with(OnMissingTable::Activate, &snapshot).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    for part in [
        "no lease table billing in eu-west-1",
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
