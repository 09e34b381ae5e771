//! Asks what the scaler would ask, call by call, so that each permission shows.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::kinesis::StartFrom;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    manifest::Written,
    report::{KeyReport, Permission, Seen, TriggerReport},
};
use crate::{
    config::Config,
    decision::answer::{Answer, answer},
    error::{Error, SourceError, SourceErrorKind},
    metrics::Metrics,
    report::explain::{self, view::AnswerView},
    source::{
        aws::Aws,
        fetch::{self, FetchRequest},
        shards::{self, ReadError},
        snapshot::Snapshot,
    },
    trigger::{KEYS, ScaleOn, Source, Stream, Trigger, policy::Policy, understood::understood},
};

/// Looks at a shard behind empty pages, one a second, before it is left undecided.
const LOOKS: usize = 30;

/// Everything about one trigger.
pub(super) async fn ask(written: Written, config: &Config) -> TriggerReport {
    let mut seen = Seen::default();
    let answer = find_answer(&written, config, &mut seen).await;
    let target = seen.target.unwrap_or(1);
    TriggerReport {
        ignored: ignored(&written),
        place: written.place,
        kind: written.kind,
        namespace: written.namespace,
        seen,
        answer: AnswerView::new(&answer, target),
    }
}

fn ignored(written: &Written) -> Vec<String> {
    let transport = ["scalerAddress", "enableTLS", "unsafeSsl"];
    let is_known = |key: &&String| {
        KEYS.iter().any(|known| known.name == **key) || transport.contains(&key.as_str())
    };
    let mut ignored: Vec<_> = written
        .metadata
        .keys()
        .filter(|key| !is_known(key))
        .cloned()
        .collect();
    ignored.sort();
    ignored
}

async fn find_answer(written: &Written, config: &Config, seen: &mut Seen) -> Result<Answer, Error> {
    let metadata = &written.metadata;
    let trigger = Trigger::parse(metadata, config.aws.region.as_deref())?;
    let is_default = |key| {
        metadata
            .get(key)
            .is_none_or(|value: &String| value.trim().is_empty())
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
    Policy::new(config.policy.clone()).check(&written.namespace, &trigger.source)?;

    let aws = Aws::new(config.aws.clone(), None, Arc::new(Metrics::new()));
    let identity = aws.client(&trigger.source).identity().await;
    let arns = Arns::new(&trigger.source, identity.as_deref().ok());
    seen.identity = Some(identity.unwrap_or_else(|error| format!("unknown: {error}")));
    try_calls(&aws, &trigger, &arns, &mut seen.permissions).await;

    let snapshot = see(&aws, &trigger).await?;
    let answer = answer(&trigger, &snapshot, Duration::ZERO);
    // Also of an error: what was seen says why.
    if let Snapshot::Application(application) = &snapshot {
        let decision = answer.as_ref().ok().and_then(|it| it.decision.as_deref());
        seen.application = Some(explain::shards::application(
            application,
            decision,
            &explain::now(),
        ));
    }
    answer
}

/// Looks as a watcher does, until every shard has a verdict.
async fn see(aws: &Arc<Aws>, trigger: &Trigger) -> Result<Snapshot, Error> {
    let mut fetcher = fetch::fetcher(aws, None, &trigger.source);
    let mut request = FetchRequest {
        lag: matches!(trigger.scale_on, ScaleOn::Lag { .. }),
        quick: false,
    };
    for _ in 1..LOOKS {
        let snapshot = fetcher.fetch(request).await.map_err(Arc::new)?;
        match &snapshot {
            Snapshot::Application(application)
                if application.lag.as_ref().is_some_and(|lag| lag.under_way) => {}
            _ => return Ok(snapshot),
        }
        request.quick = true;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(fetcher.fetch(request).await.map_err(Arc::new)?)
}

async fn try_calls(aws: &Arc<Aws>, trigger: &Trigger, arns: &Arns, tried: &mut Vec<Permission>) {
    let source = &trigger.source;
    let mut note = |action: &str, resource: &str, error: Option<&SourceError>| {
        let denied = error.is_some_and(|error| error.kind == SourceErrorKind::AccessDenied);
        tried.push(Permission {
            action: action.to_owned(),
            ok: error.is_none(),
            error: error.map(ToString::to_string),
            statement: denied.then(|| arns.statement(action, resource)),
        });
    };
    let Some(table) = &source.lease_table else {
        let open = shards::open_shards(aws, source);
        note(
            "kinesis:DescribeStreamSummary",
            &arns.stream,
            open.describe().await.err().as_ref(),
        );
        note(
            "kinesis:ListShards",
            &arns.stream,
            open.list_all().await.err().as_ref(),
        );
        return;
    };
    let reads = shards::application(aws, source, table);
    let leases = reads.leases().await;
    note("dynamodb:Scan", &arns.table, leases.as_ref().err());
    let listed = reads.shards().await;
    note("kinesis:ListShards", &arns.stream, listed.as_ref().err());
    let (ScaleOn::Lag { .. }, Ok(listed)) = (trigger.scale_on, listed) else {
        return;
    };
    let Some(any) = listed.iter().find(|shard| !shard.closed) else {
        return;
    };
    let iterator = reads.iterator(&any.id, &StartFrom::Latest).await;
    note(
        "kinesis:GetShardIterator",
        &arns.stream,
        failed(iterator.as_ref().err()),
    );
    if let Ok(iterator) = iterator {
        let page = reads.peek(&iterator).await;
        note(
            "kinesis:GetRecords",
            &arns.stream,
            failed(page.as_ref().err()),
        );
    }
}

/// Throttling and the like show that the call is allowed.
fn failed(error: Option<&ReadError>) -> Option<&SourceError> {
    match error {
        Some(ReadError::Failed(error)) => Some(error),
        _ => None,
    }
}

/// Resources as policies name them.
struct Arns {
    stream: String,
    table: String,
}

impl Arns {
    fn new(source: &Source, identity: Option<&str>) -> Self {
        let identity: Vec<_> = identity.unwrap_or_default().split(':').collect();
        let partition = identity.get(1).copied().unwrap_or("aws");
        let account = identity.get(4).copied().unwrap_or("*");
        let region = &source.region;
        let arn = |service: &str, resource: String| {
            format!("arn:{partition}:{service}:{region}:{account}:{resource}")
        };
        let table = source.lease_table.as_ref().map_or("", |table| &table.name);
        Self {
            stream: match &source.stream {
                Stream::Arn(arn) => arn.clone(),
                Stream::Name(name) => arn("kinesis", format!("stream/{name}")),
            },
            table: arn("dynamodb", format!("table/{table}")),
        }
    }

    fn statement(&self, action: &str, resource: &str) -> Value {
        json!({"Effect": "Allow", "Action": [action], "Resource": [resource]})
    }
}
