//! Looks at the world as an operator would, through the AWS APIs: shards, leases, and what has
//! reached the table.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::{error::ProvideErrorMetadata as _, types::AttributeValue};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    ledger::Ledger,
    stage::{APPLICATION, STREAM},
    state::{Board, Sample, Shard, Source, State, short_shard},
};

/// Rates are taken over so long.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// Observes for ever: cancel it by dropping. A failed look is left out; the next one comes soon.
pub async fn run(
    board: Board,
    kinesis: aws_sdk_kinesis::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    ledger: Ledger,
    every: Duration,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counts: VecDeque<(Instant, u64, u64)> = VecDeque::new();
    let (mut said_open, mut said) = (String::new(), String::new());
    loop {
        ticks.tick().await;
        let (Ok(shards), Ok((stored, lag))) = (
            look_at_shards(&kinesis, &dynamodb).await,
            ledger.look(&dynamodb).await,
        ) else {
            continue;
        };
        let at = board.elapsed();
        let (open, text) = board.update(|state| {
            state.shards = shards
                .into_iter()
                .map(|shard| remember(shard, &state.shards))
                .collect();
            state.stored = stored;
            if stored > 0 {
                state.first_stored.get_or_insert(at);
            }
            state.lag = lag;
            let now = Instant::now();
            counts.push_back((now, state.sent, stored));
            while counts.len() > 2 && now.duration_since(counts[1].0) >= RATE_WINDOW {
                counts.pop_front();
            }
            (state.sent_per_second, state.stored_per_second) = rates(&counts);
            let sample = sample(state, at);
            state.samples.push(sample);
            (open_shards(state), holders(state))
        });
        if open != said_open {
            board.say(Source::Shard, open.clone());
            said_open = open;
        }
        if !text.is_empty() && text != said {
            board.say(Source::Shard, text.clone());
            said = text;
        }
    }
}

/// All shards that are listed, with what the lease table says of them.
async fn look_at_shards(
    kinesis: &aws_sdk_kinesis::Client,
    dynamodb: &aws_sdk_dynamodb::Client,
) -> Result<Vec<Shard>> {
    let listed = kinesis
        .list_shards()
        .stream_name(STREAM)
        .send()
        .await
        .context("ListShards")?;
    let leases = match dynamodb
        .scan()
        .table_name(APPLICATION)
        .consistent_read(true)
        .send()
        .await
    {
        Ok(answer) => answer.items.unwrap_or_default(),
        // Before the first consumer made it.
        Err(error) if error.code() == Some("ResourceNotFoundException") => Vec::new(),
        Err(error) => return Err(error).context("Scan of the lease table"),
    };
    let shards = listed.shards().iter().map(|shard| {
        let lease = leases
            .iter()
            .find(|lease| string(lease.get("leaseKey")) == Some(shard.shard_id()));
        let attribute = |name| lease.and_then(|lease| string(lease.get(name)));
        Shard {
            id: shard.shard_id().to_owned(),
            open: shard
                .sequence_number_range()
                .is_none_or(|range| range.ending_sequence_number().is_none()),
            holder: attribute("leaseOwner").map(str::to_owned),
            finished: attribute("checkpoint") == Some("SHARD_END"),
        }
    });
    Ok(shards.collect())
}

/// A shard that was finished once stays so: its lease may be deleted.
fn remember(shard: Shard, before: &[Shard]) -> Shard {
    let finished = before
        .iter()
        .any(|known| known.id == shard.id && known.finished);
    Shard {
        finished: shard.finished || finished,
        ..shard
    }
}

fn open_shards(state: &State) -> String {
    let open: Vec<&str> = state
        .shards
        .iter()
        .filter(|shard| shard.open)
        .map(Shard::short)
        .collect();
    format!("{} open: {}", open.len(), open.join(", "))
}

fn string(value: Option<&AttributeValue>) -> Option<&str> {
    value?.as_s().ok().map(String::as_str)
}

fn rates(counts: &VecDeque<(Instant, u64, u64)>) -> (f64, f64) {
    let (Some(first), Some(last)) = (counts.front(), counts.back()) else {
        return (0.0, 0.0);
    };
    let seconds = last.0.duration_since(first.0).as_secs_f64();
    if seconds == 0.0 {
        return (0.0, 0.0);
    }
    (
        (last.1 - first.1) as f64 / seconds,
        last.2.saturating_sub(first.2) as f64 / seconds,
    )
}

fn sample(state: &State, at: Duration) -> Sample {
    Sample {
        at,
        sent_per_second: state.sent_per_second,
        stored_per_second: state.stored_per_second,
        lag: state.lag,
        open_shards: state.open_shards(),
        running: state.running(),
        wished: state.wish.as_ref().map(|wish| wish.replicas),
        shards: state.shards.clone(),
    }
}

/// Who reads what, as a sentence; empty while nobody reads.
fn holders(state: &State) -> String {
    let mut parts: Vec<String> = Vec::new();
    for pod in &state.pods {
        let held: Vec<&str> = state.held_by(&pod.name).map(Shard::short).collect();
        if !held.is_empty() {
            parts.push(format!("{} reads {}", pod.name, held.join(", ")));
        }
    }
    let waiting: Vec<&str> = state
        .shards
        .iter()
        .filter(|shard| !shard.finished && shard.holder.is_none())
        .map(|shard| short_shard(&shard.id))
        .collect();
    if !parts.is_empty() && !waiting.is_empty() {
        parts.push(format!("nobody yet: {}", waiting.join(", ")));
    }
    parts.join("; ")
}
