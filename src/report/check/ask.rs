//! Makes the calls that the scaler would make, one by one, so that each permission shows.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::shards::StartFrom;
use serde_json::json;
use tokio::time::sleep;

use super::{
    interval::Checkpoints,
    manifest::Written,
    report::{KeyReport, Permission, Seen, Told, TriggerReport},
};
use crate::{
    config::Config,
    decision::{
        answer::{Answer, Question, answer_application, answer_open_shards},
        memories::Decisions,
    },
    error::{Error, SourceError, code_name},
    metrics::Metrics,
    report::explain::{self, view::AnswerView},
    source::{
        aws::Aws,
        fetch::{FetchRequest, Fetchers as _, RACED_A_RESHARD},
        shards::{self, ReadError},
        snapshot::ApplicationSnapshot,
    },
    trigger::{
        Measure, ScaleOn, StreamSource, Trigger, Work, given::FROM_ENV, policy::Policy,
        understood::understood,
    },
    watch::Pace,
};

/// Fetches of shards behind empty pages, one a second, before they are left undecided.
const FETCHES: usize = 30;

/// Everything about one trigger.
pub(super) async fn ask(written: Written, config: &Config) -> TriggerReport {
    let mut seen = Seen::default();
    let told = match &written {
        Written { refused, .. } if !refused.is_empty() => Told::Refused {
            refused: refused.clone(),
        },
        Written { unknown, .. } if !unknown.is_empty() => wrong_anyway(&written, config)
            .unwrap_or_else(|| Told::Unknown {
                unknown: unknown.clone(),
            }),
        Written { scaling, .. } => {
            let answer = find_answer(&written, config, &mut seen).await;
            let answer = AnswerView::new(&answer, seen.target.unwrap_or(1));
            // It was asked who asks after the metadata and the policy were right.
            Told::new(answer, scaling.as_ref(), seen.identity.is_some())
        }
    };
    let hints = written
        .ignored
        .iter()
        .filter(|(_, why)| why.contains("want"));
    TriggerReport {
        hints: hints.map(|(key, why)| format!("{key}: {why}")).collect(),
        ignored: written.ignored,
        place: written.place,
        kind: written.kind,
        namespace: written.namespace,
        seen,
        told,
    }
}

/// What is wrong whatever the unknown keys hold: a key that is there.
fn wrong_anyway(written: &Written, config: &Config) -> Option<Told> {
    // It decides on which keys may stand beside it.
    let mut unknown = written.unknown.iter();
    if unknown.any(|unknown| unknown.starts_with("scaleOn")) {
        return None;
    }
    let error = Trigger::parse(&written.metadata, config.aws.region.as_deref()).err()?;
    let code = code_name(error.code()).to_owned();
    let Error::InvalidMetadata(wrong) = error else {
        return None;
    };
    let wrong = wrong.iter().filter(|wrong| wrong.value.is_some());
    let wrong: Vec<_> = wrong.map(ToString::to_string).collect();
    if wrong.is_empty() {
        return None;
    }
    let error = [wrong, written.unknown.clone()].concat().join("\n");
    let answer = AnswerView::Error { code, error };
    Some(Told::new(answer, written.scaling.as_ref(), false))
}

async fn find_answer(written: &Written, config: &Config, seen: &mut Seen) -> Result<Answer, Error> {
    let metadata = &written.metadata;
    let trigger = Trigger::parse(metadata, config.aws.region.as_deref())?;
    let is_default = |key: &str| {
        let given = |key: &str| {
            metadata
                .get(key)
                .is_some_and(|value| !value.trim().is_empty())
        };
        !given(key) && !given(&format!("{key}{FROM_ENV}"))
    };
    let keys = understood(&trigger).into_iter();
    seen.keys = keys
        .map(|pair| KeyReport {
            default: is_default(pair.key),
            pair,
        })
        .collect();
    seen.metric_name = Some(trigger.metric_name());
    seen.target = Some(trigger.shard_count);
    Policy::new(config.policy.clone(), config.policy_default)
        .check(&written.namespace, &trigger)?;

    let aws = Aws::new(config.aws.clone(), None, Arc::new(Metrics::new()));
    let stream = &trigger.stream;
    let named = |identity: Result<String, SourceError>| {
        identity.unwrap_or_else(|error| format!("unknown: {error}"))
    };
    seen.identity = Some(named(aws.kinesis(stream).identity().await));
    seen.table_identity = match trigger.lease_table() {
        Some(table) if table.role != stream.role => {
            Some(named(aws.dynamodb(table).identity().await))
        }
        _ => None,
    };
    try_calls(&aws, &trigger, &mut seen.permissions).await;

    match &trigger.scale_on {
        ScaleOn::OpenShards { activation } => {
            let fetched = aws
                .stream(stream, &"".into())
                .fetch(FetchRequest::default())
                .await;
            let snapshot = fetched.map_err(Arc::new)?;
            Ok(answer_open_shards(&snapshot, *activation))
        }
        ScaleOn::Application(work) => {
            let second_look = Pace::from(&config.aws).second_look;
            let mut checkpoints = Checkpoints::default();
            let looked = fetch_application(&aws, stream, work, second_look, &mut checkpoints).await;
            let snapshot = looked?;
            if let Measure::Lag { threshold, .. } = work.measure {
                seen.warnings.extend(checkpoints.warning(threshold));
            }
            let question = Question {
                stream,
                work,
                shard_count: trigger.shard_count,
                max_stale: Duration::ZERO,
            };
            let answer = answer_application(&question, &snapshot, &Decisions::default());
            // Also beside an error: what was seen says why.
            let now = explain::now();
            seen.application = Some(explain::shards::application(&snapshot, &answer, &now));
            answer
        }
    }
}

/// Fetches as a watcher does, until every shard has a verdict, and for a while longer where no
/// checkpoint moved.
async fn fetch_application(
    aws: &Arc<Aws>,
    stream: &StreamSource,
    work: &Work,
    second_look: Duration,
    checkpoints: &mut Checkpoints,
) -> Result<Arc<ApplicationSnapshot>, Error> {
    let mut fetcher = aws.application(&work.application(stream));
    let mut request = FetchRequest {
        lag: match work.measure {
            Measure::ReadableShards { .. } => false,
            Measure::Lag { .. } => true,
        },
        quick: false,
    };
    let mut since = None;
    let mut lists_again = true;
    for _ in 1..FETCHES {
        let snapshot = match fetcher.fetch(request).await {
            // One list may lag behind a reshard; the second one tells that from a new stream.
            Err(error) if error.code == RACED_A_RESHARD && lists_again => {
                lists_again = false;
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            fetched => fetched.map_err(Arc::new)?,
        };
        checkpoints.look(&snapshot);
        let watched = since.get_or_insert(snapshot.at).elapsed();
        let lag = snapshot.lag.as_ref();
        if lag.is_some() && snapshot.is_first_look {
            // Whether the owners of leases live is seen by their renewals.
            sleep(second_look).await;
        } else if lag.is_some_and(|lag| lag.under_way) {
            request.quick = true;
            sleep(Duration::from_secs(1)).await;
        } else if let Measure::Lag { threshold, .. } = work.measure
            && checkpoints.are_worth_a_look(threshold, watched)
        {
            request.quick = false;
            sleep(second_look).await;
        } else {
            return Ok(snapshot);
        }
    }
    Ok(fetcher.fetch(request).await.map_err(Arc::new)?)
}

async fn try_calls(aws: &Arc<Aws>, trigger: &Trigger, tried: &mut Vec<Permission>) {
    let stream = &trigger.stream;
    let mut note = |action: &str, error: Option<&SourceError>| {
        tried.push(Permission {
            action: action.to_owned(),
            ok: error.is_none(),
            error: error.map(ToString::to_string),
            statement: error.and_then(|error| error.statement.as_ref()).map(|statement| {
                json!({"Effect": "Allow", "Action": [statement.action], "Resource": [statement.resource]})
            }),
        });
    };
    let work = match &trigger.scale_on {
        ScaleOn::OpenShards { .. } => {
            let open = shards::open_shards(aws, stream, &"".into());
            let described = open.describe().await;
            note("kinesis:DescribeStreamSummary", described.as_ref().err());
            let listed = open.list_all().await;
            note("kinesis:ListShards", listed.as_ref().err());
            return;
        }
        ScaleOn::Application(work) => work,
    };
    let reads = shards::application(aws, &work.application(stream));
    let leases = reads.leases().await;
    note("dynamodb:Scan", leases.as_ref().err());
    let listed = reads.shards().await;
    note("kinesis:ListShards", listed.as_ref().err());
    let listed = match (work.measure, listed) {
        (Measure::Lag { .. }, Ok(listed)) => listed,
        (Measure::Lag { .. } | Measure::ReadableShards { .. }, _) => return,
    };
    let Some(any) = listed.iter().find(|shard| !shard.closed) else {
        return;
    };
    let iterator = reads.iterator(any.id.as_str(), &StartFrom::Latest).await;
    note("kinesis:GetShardIterator", failed(iterator.as_ref().err()));
    if let Ok(iterator) = iterator {
        let page = reads.peek(&iterator).await;
        note("kinesis:GetRecords", failed(page.as_ref().err()));
    }
}

/// The failure that a permission is judged by. Throttling and the like show that the call is
/// allowed.
fn failed(error: Option<&ReadError>) -> Option<&SourceError> {
    match error {
        Some(ReadError::Failed(error)) => Some(error),
        _ => None,
    }
}
