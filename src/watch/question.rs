//! A trigger's question: the channel of its source's watcher, and what to make of what comes there.

use std::{sync::Arc, time::Duration};

use right_sizing::Settings;
use tokio::sync::watch::{Receiver, error::RecvError};

use super::{Pace, demand::Demand, state::State, table::Watched};
use crate::{
    decision::answer::{self, Answer, answer_application, answer_open_shards},
    error::Error,
    source::snapshot::{ApplicationSnapshot, StreamSnapshot},
    trigger::{ApplicationSource, Measure, StreamSource, Work},
};

/// A trigger's question.
#[derive(Debug)]
pub(super) enum Question {
    OpenShards {
        stream: StreamSource,
        activation: i64,
        state: Receiver<State<StreamSnapshot>>,
    },
    Application {
        application: ApplicationSource,
        work: Work,
        shard_count: i64,
        state: Receiver<State<Arc<ApplicationSnapshot>>>,
    },
}

impl Question {
    /// The answer from what is known now; `None`: nothing is known yet.
    pub(super) fn answer(&mut self, pace: &Pace) -> Option<Result<Answer, Error>> {
        match self {
            Self::OpenShards {
                stream,
                activation,
                state,
            } => {
                let state = state.borrow_and_update();
                let snapshot = standing(&state, stream, pace)?;
                Some(snapshot.map(|snapshot| answer_open_shards(snapshot, *activation)))
            }
            Self::Application {
                application,
                work,
                shard_count,
                state,
            } => {
                let state = state.borrow_and_update();
                let snapshot = match standing(&state, application, pace)? {
                    Ok(snapshot) => snapshot,
                    Err(error) => return Some(Err(error)),
                };
                match work.measure {
                    // Fetched at once; whoever asks waits for it.
                    Measure::Lag { .. } if snapshot.lag.is_none() => return None,
                    Measure::Lag { .. } | Measure::ReadableShards { .. } => {}
                }
                let question = answer::Question {
                    stream: &application.stream,
                    work,
                    shard_count: *shard_count,
                    max_stale: pace.max_stale,
                };
                Some(answer_application(&question, snapshot, &state.decisions))
            }
        }
    }

    /// What to say while nothing is known.
    pub(super) fn not_yet(&self) -> Error {
        match self {
            Self::OpenShards { stream, .. } => not_yet(stream),
            Self::Application { application, .. } => not_yet(&application.stream),
        }
    }

    /// Waits until something changed.
    ///
    /// # Errors
    /// The watcher is gone.
    pub(super) async fn changed(&mut self) -> Result<(), RecvError> {
        match self {
            Self::OpenShards { state, .. } => state.changed().await,
            Self::Application { state, .. } => state.changed().await,
        }
    }
}

/// Follows a trigger's source, which keeps its watcher alive.
#[derive(Debug)]
pub struct Subscription {
    question: Question,
    demand: Arc<Demand>,
    settings: Option<Settings>,
    pace: Pace,
}

impl Subscription {
    pub(super) fn new(
        question: Question,
        demand: Arc<Demand>,
        settings: Option<Settings>,
        pace: Pace,
    ) -> Self {
        demand.follow(settings);
        Self {
            question,
            demand,
            settings,
            pace,
        }
    }

    /// The answer from what is known now, where there is one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.question.answer(&self.pace)?.ok()
    }

    /// Waits until something changed.
    ///
    /// # Errors
    /// The watcher is gone: subscribe again.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.question.changed().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.demand.unfollow(self.settings);
    }
}

/// What to answer from; `None`: nothing is known yet.
fn standing<'a, W: Watched>(
    state: &'a State<W::Snapshot>,
    source: &W,
    pace: &Pace,
) -> Option<Result<&'a W::Snapshot, Error>> {
    if let Some(snapshot) = state.standing(pace) {
        return Some(Ok(snapshot));
    }
    if let Some(error) = state.failure() {
        return Some(Err(Error::Source(Arc::clone(error))));
    }
    Some(Err(too_old(source, state.last_good()?.elapsed())))
}

fn not_yet(StreamSource { stream, region, .. }: &StreamSource) -> Error {
    Error::NotYet(format!(
        "AWS is being asked about stream {stream} in {region}, with no answer yet: ask again. If this stays, see the scaler's aws_calls metric, aws.callsPerSecond and aws.timeout"
    ))
}

fn too_old(source: &impl Watched, age: Duration) -> Error {
    let StreamSource { stream, region, .. } = source.stream();
    let age = age.as_secs();
    Error::NotYet(match source.table() {
        Some(table) => format!(
            "the last answer about stream {stream} in {region} and lease table {} is {age} s old and the next look has not ended yet: see the scaler's aws_call_duration metric, and raise aws.maxStale where AWS is slow for long",
            table.name
        ),
        None => format!(
            "the last answer about stream {stream} in {region} is {age} s old and the next question to AWS waits for its turn: raise aws.callsPerSecond or aws.maxStale, or allow kinesis:ListShards"
        ),
    })
}
