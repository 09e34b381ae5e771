//! Shards as bars: how old the oldest unread record is, whose the shard is, and what it is to the
//! application.

use maud::{Markup, html};

use crate::report::{
    explain::shards::{ApplicationView, ShardView},
    text::{shortened, time},
};

/// Shards on a page, the worst first. The JSON has every one.
const MOST_SHARDS: usize = 100;

/// All shards in one strip, and the worst of them one by one. `threshold`: `lagThreshold` in ms.
pub(super) fn table(application: &ApplicationView, threshold: Option<u64>) -> Markup {
    let shards = &application.shards;
    let left_out = shards.len().saturating_sub(MOST_SHARDS);
    let oldest = application.oldest_unread_ms.unwrap_or(0);
    let longest = oldest.max(threshold.unwrap_or(0).saturating_mul(2)).max(1);
    let table = application.table.trim_end_matches('.');
    html! {
        h3 { "Shards" }
        p.dim {
            (shards.len()) " within the retention period, " (application.readable) " readable. Lease table: " (table)
            ". Read at " (application.read) "."
        }
        @for (key, wrong) in &application.malformed {
            p { span.bad { "A broken row is left out: " } code { (key) } ": " (wrong) }
        }
        (strip(shards))
        div.wide {
            table.shards {
                tr { th { "shard" } th { "state" } th { "oldest unread record" } th { "owner" } th { "checkpoint" } th { "why" } }
                @for shard in shards.iter().take(MOST_SHARDS) { (row(shard, threshold, longest)) }
            }
        }
        @if left_out > 0 { p.dim { "and " (left_out) " more, none worse than these: see the JSON" } }
    }
}

/// How many shards there are of each state.
fn strip(shards: &[ShardView]) -> Markup {
    // They come sorted by state.
    let mut at = 0;
    let parts: Vec<_> = shards
        .chunk_by(|one, other| one.state == other.state)
        .map(|equal| {
            at += equal.len();
            (equal[0].state, at - equal.len(), equal.len())
        })
        .collect();
    html! {
        svg.strip viewBox=(format!("0 0 {} 1", at.max(1))) preserveAspectRatio="none" role="img" aria-label="Shards by state" {
            @for (state, from, count) in &parts {
                rect class=(state.names().0) x=(from) y="0" width=(count) height="1" vector-effect="non-scaling-stroke" {}
            }
        }
        div.legend {
            @for (state, _, count) in &parts {
                span class=(format!("state {}", state.names().0)) { (count) " " (state.names().1) }
            }
        }
    }
}

fn row(shard: &ShardView, threshold: Option<u64>, longest: u64) -> Markup {
    let late = shard
        .age_ms
        .zip(threshold)
        .is_some_and(|(age, most)| age > most);
    let (class, word) = match late {
        true => ("late", "late"),
        false => shard.state.names(),
    };
    let lease = shard.lease.as_ref();
    html! {
        tr {
            td {
                code { (shard.id) }
                @if shard.closed { " " small { "closed" } }
                @if !shard.parents.is_empty() { br; small { "of " (shard.parents.join(" and ")) } }
            }
            td { span class=(format!("state {class}")) { (word) } }
            td.bar {
                @if let Some(age) = shard.age_ms {
                    (time(age))
                    @if let Some(progress) = shard.progress { " " small { (format!("gains {progress:.2} s/s")) } }
                    (bar(class, age, threshold, longest))
                }
            }
            td {
                @match lease.and_then(|lease| Some((lease.owner.as_ref()?, lease))) {
                    Some((owner, lease)) => {
                        (owner)
                        @if !lease.live { br; small { "does not renew it" } }
                        @if let Some(busy) = lease.busy { br; small { (format!("busy {:.0} %", busy * 100.0)) } }
                    },
                    None => span.dim { @if lease.is_some() { "nobody" } @else { "no lease" } },
                }
            }
            td {
                @if let Some(lease) = lease { code title=(lease.checkpoint) { (shortened(&lease.checkpoint)) } }
            }
            td {
                (shard.why)
                @if shard.left_out { "; its checkpoint does not move, so it is left out of the decision" }
                @if let Some(age) = shard.verdict_age_ms { br; small { "as of " (time(age)) " ago" } }
            }
        }
    }
}

fn bar(class: &str, age: u64, threshold: Option<u64>, longest: u64) -> Markup {
    let part = |ms: u64| format!("{:.2}", 100.0 * ms.min(longest) as f64 / longest as f64);
    // Half a unit is the narrowest bar that can be seen.
    let width = part(age.max(longest / 200));
    html! {
        svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=(time(age)) {
            rect.track x="0" y="0" width="100" height="6" {}
            rect class=(format!("age {class}")) x="0" y="0" width=(width) height="6" {}
            @if let Some(threshold) = threshold {
                line.mark x1=(part(threshold)) x2=(part(threshold)) y1="0" y2="6" vector-effect="non-scaling-stroke" {}
            }
        }
    }
}
