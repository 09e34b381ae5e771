//! Answers about lag while probes fail.

use tokio::time::advance;
use tonic::Code;

use super::*;
use crate::{
    error::SourceErrorKind,
    source::snapshot::examples::{caught_up, lag_trigger},
    trigger::{ScaleOn, Trigger},
};

const MAX_STALE: Duration = Duration::from_secs(60);

fn answer(snapshot: &ApplicationSnapshot) -> Result<Answer, Error> {
    let Trigger {
        stream,
        scale_on: ScaleOn::Application(work),
        shard_count,
    } = lag_trigger(30)
    else {
        panic!("not of an application");
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
