//! Asks what the scaler would ask, call by call, so that each permission shows.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kinesis_consumer::{kinesis::StartFrom, shard_sync::Readability};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    manifest::Written,
    report::{KeyReport, Permission, Refused, ShardReport, Told, TriggerReport},
};
use crate::{
    answer::answer,
    aws::Aws,
    config::Config,
    error::{Error, SourceError, SourceErrorKind},
    look::{self, Wanted},
    metrics::Metrics,
    policy::Policy,
    probe::Verdict,
    shards::{self, ReadError},
    sight::{Application, ShardSight, Sight, Table},
    trigger::{KEYS, ScaleOn, Source, Stream, Trigger},
};

/// Looks at a shard behind empty pages, one a second, before it is left undecided.
const LOOKS: usize = 30;

/// Everything about one trigger.
pub(super) async fn ask(written: Written, config: &Config) -> TriggerReport {
    let namespace = written.namespace.clone().unwrap_or_default();
    let mut report = TriggerReport {
        keys: Vec::new(),
        ignored: ignored(&written),
        place: written.place,
        kind: written.kind,
        namespace,
        identity: None,
        permissions: Vec::new(),
        lease_table: None,
        shards: Vec::new(),
        told: Err(Refused {
            code: String::new(),
            message: String::new(),
        }),
    };
    report.told = told(&written.metadata, config, &mut report)
        .await
        .map_err(|error| Refused {
            code: format!("{:?}", error.code()),
            message: error.to_string(),
        });
    report
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

async fn told(
    metadata: &std::collections::HashMap<String, String>,
    config: &Config,
    report: &mut TriggerReport,
) -> Result<Told, Error> {
    let trigger = Trigger::parse(metadata, config.aws.region.as_deref())?;
    report.keys = KEYS
        .iter()
        .map(|key| {
            let value = metadata.get(key.name).map(|value| value.trim());
            let value = value.filter(|value| !value.is_empty());
            KeyReport {
                key: key.name,
                value: match (key.name, value) {
                    ("awsExternalId", Some(_)) => "…".to_owned(),
                    (_, value) => value.unwrap_or(key.default).to_owned(),
                },
                default: value.is_none(),
            }
        })
        .collect();
    Policy::new(config.policy.clone()).check(&report.namespace, &trigger.source)?;

    let aws = Aws::new(config.aws.clone(), None, Arc::new(Metrics::new()));
    let identity = aws.client(&trigger.source).identity().await;
    report.identity = Some(match &identity {
        Ok(arn) => arn.clone(),
        Err(error) => format!("unknown: {error}"),
    });
    let arns = Arns::new(&trigger.source, identity.ok().as_deref());
    try_calls(&aws, &trigger, &arns, report).await;

    let sight = see(&aws, &trigger).await?;
    if let Sight::Application(application) = &sight {
        report.lease_table = Some(table(application));
        report.shards = application.shards.iter().map(shard).collect();
    }
    let answer = answer(&trigger, &sight, Duration::ZERO)?;
    Ok(Told {
        metric_name: trigger.metric_name(),
        target: trigger.shard_count,
        value: answer.value,
        active: answer.active,
        reason: answer.reason,
    })
}

/// Looks as a watcher does, until every shard has a verdict.
async fn see(aws: &Arc<Aws>, trigger: &Trigger) -> Result<Sight, Error> {
    let mut eye = look::at(aws, None, &trigger.source);
    let mut wanted = Wanted {
        lag: matches!(trigger.scale_on, ScaleOn::Lag { .. }),
        quick: false,
    };
    for _ in 1..LOOKS {
        let sight = eye.look(wanted).await.map_err(Arc::new)?;
        match &sight {
            Sight::Application(application)
                if application.lag.as_ref().is_some_and(|lag| lag.under_way) => {}
            _ => return Ok(sight),
        }
        wanted.quick = true;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(eye.look(wanted).await.map_err(Arc::new)?)
}

async fn try_calls(aws: &Arc<Aws>, trigger: &Trigger, arns: &Arns, report: &mut TriggerReport) {
    let source = &trigger.source;
    let mut note = |action: &str, resource: &str, error: Option<&SourceError>| {
        let denied = error.is_some_and(|error| error.kind == SourceErrorKind::AccessDenied);
        report.permissions.push(Permission {
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

fn table(application: &Application) -> String {
    match &application.table {
        Table::Missing => "there is none".to_owned(),
        Table::Read {
            leases,
            unlisted,
            others,
            malformed,
        } => {
            let mut text = format!(
                "{leases} leases ({unlisted} of shards that the stream has forgotten), {others} other rows"
            );
            for (key, reason) in malformed {
                text.push_str(&format!("; row {key:?} is left out: {reason}"));
            }
            text
        }
    }
}

fn shard(shard: &ShardSight) -> ShardReport {
    let state = match &shard.readability {
        Readability::Readable { .. } => "readable".to_owned(),
        Readability::Finished => "finished".to_owned(),
        Readability::NotWanted => "not wanted: the application started below it".to_owned(),
        Readability::WaitsFor(parents) => {
            let parents: Vec<_> = parents.iter().map(String::as_str).collect();
            format!("waits for {}", parents.join(", "))
        }
    };
    let probe = shard.probe.as_ref();
    let age = match probe.and_then(|probe| probe.verdict.as_ref()) {
        Some(Verdict::Unread { since, .. }) => Some(
            Timestamp::now()
                .duration_since(*since)
                .as_secs_f64()
                .max(0.0),
        ),
        _ => None,
    };
    let lease = shard.lease.as_ref();
    ShardReport {
        id: shard.id.clone(),
        parents: shard.parents.iter().cloned().collect(),
        closed: shard.closed,
        state,
        owner: lease.and_then(|lease| lease.owner.clone()),
        checkpoint: lease.map(|lease| lease.checkpoint.to_string()),
        unread_for_seconds: age,
        why: probe.map(|probe| probe.why.clone()),
    }
}
