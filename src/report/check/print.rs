//! The report for people.

use std::fmt::{self, Write as _};

use super::report::{Permission, Report, TriggerReport};
use crate::report::{
    explain::{
        shards::{ApplicationView, ShardView},
        view::AnswerView,
    },
    text::{shortened, time},
};

/// Shards printed; tools get all of them.
const MOST_SHARDS: usize = 50;

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for trigger in &report.triggers {
        trigger
            .print(&mut text)
            .expect("writing to a String does not fail");
    }
    text
}

impl TriggerReport {
    fn print(&self, out: &mut String) -> fmt::Result {
        let Self {
            place,
            kind,
            namespace,
            ignored,
            seen,
            answer,
        } = self;
        writeln!(out, "{place} ({kind}), namespace {namespace}")?;
        if kind == "aws-kinesis-stream" {
            writeln!(
                out,
                "  as it would read with type external and scalerAddress"
            )?;
        }
        for key in &seen.keys {
            let mark = if key.default { " (default)" } else { "" };
            writeln!(out, "  {:<24} {}{mark}", key.pair.key, key.pair.value)?;
        }
        for key in ignored {
            let why = if key.ends_with("FromEnv") {
                "ignored; KEDA puts the variable's value in its place"
            } else {
                "ignored"
            };
            writeln!(out, "  {key:<24} {why}")?;
        }
        if let Some(identity) = &seen.identity {
            writeln!(out, "  asks as                  {identity}")?;
        }
        for permission in &seen.permissions {
            permission.print(out)?;
        }
        if let Some(application) = &seen.application {
            print_application(application, out)?;
        }
        match answer {
            AnswerView::Answer {
                value,
                replicas,
                active,
                reason,
                ..
            } => {
                let name = seen.metric_name.as_deref().unwrap_or_default();
                let target = seen.target.unwrap_or_default();
                let active = match active {
                    true => format!("active: replicas {replicas}"),
                    false => "not active: nothing is started from zero".to_owned(),
                };
                writeln!(
                    out,
                    "  KEDA would be told: {name} = {value}, target {target}, {active}\n    {reason}\n"
                )
            }
            AnswerView::Error { code, error } => {
                writeln!(out, "  KEDA would get the error {code}:")?;
                for line in error.lines() {
                    writeln!(out, "    {line}")?;
                }
                writeln!(out)
            }
        }
    }
}

impl Permission {
    fn print(&self, out: &mut String) -> fmt::Result {
        let Self {
            action,
            ok,
            error,
            statement,
        } = self;
        writeln!(out, "  {} {action}", if *ok { "✓" } else { "✗" })?;
        if let Some(error) = error {
            writeln!(out, "      {error}")?;
        }
        if let Some(statement) = statement {
            writeln!(out, "      missing in its policy: {statement}")?;
        }
        Ok(())
    }
}

fn print_application(application: &ApplicationView, out: &mut String) -> fmt::Result {
    writeln!(out, "  lease table: {}", application.table)?;
    for (key, wrong) in &application.malformed {
        writeln!(out, "    row {key:?} is left out: {wrong}")?;
    }
    for shard in application.shards.iter().take(MOST_SHARDS) {
        print_shard(shard, out)?;
    }
    if application.shards.len() > MOST_SHARDS {
        let more = application.shards.len() - MOST_SHARDS;
        writeln!(out, "    and {more} more: see -o json")?;
    }
    Ok(())
}

fn print_shard(shard: &ShardView, out: &mut String) -> fmt::Result {
    let open = if shard.closed { "closed" } else { "open" };
    write!(out, "    {} {open}, {}", shard.id, shard.state.names().1)?;
    if let Some(age) = shard.age_ms {
        write!(out, " for {}", time(age))?;
    }
    if !shard.parents.is_empty() {
        write!(out, "; child of {}", shard.parents.join(", "))?;
    }
    match &shard.lease {
        Some(lease) => {
            let owner = lease.owner.as_deref().unwrap_or("nobody's");
            write!(out, "; {owner} at {}", shortened(&lease.checkpoint))?;
        }
        None => write!(out, "; no lease")?,
    }
    writeln!(out, " ({})", shard.why)
}
