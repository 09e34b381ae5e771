//! The report for people.

use std::fmt::{self, Write as _};

use super::{
    documents::Unread,
    report::{Permission, Report, Seen, Told, TriggerReport},
};
use crate::report::{
    explain::shards::{ApplicationView, ShardView},
    text::{shortened, time},
};

/// Shards printed; tools get all of them.
const MOST_SHARDS: usize = 50;

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for Unread { place, wrong } in &report.unread {
        text.push_str(&format!("{place}: passed over: {wrong}\n"));
    }
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
            told,
            hints: _,
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
        for (key, why) in ignored {
            writeln!(out, "  {key:<24} {why}")?;
        }
        if let Some(identity) = &seen.identity {
            writeln!(out, "  asks as                  {identity}")?;
        }
        if let Some(identity) = &seen.table_identity {
            writeln!(out, "  asks for the table as    {identity}")?;
        }
        for permission in &seen.permissions {
            permission.print(out)?;
        }
        if let Some(application) = &seen.application {
            print_application(application, out)?;
        }
        for warning in &seen.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        told.print(seen, out)
    }
}

impl Told {
    fn print(&self, seen: &Seen, out: &mut String) -> fmt::Result {
        match self {
            Self::Answer {
                value,
                words,
                reason,
                left_out,
                ..
            } => {
                let name = seen.metric_name.as_deref().unwrap_or_default();
                let target = seen.target.unwrap_or_default();
                writeln!(
                    out,
                    "  KEDA would be told: {name} = {value}, target {target}, {words}"
                )?;
                print_lines([reason].into_iter().chain(left_out), out)
            }
            Self::Error {
                code,
                error,
                fallback,
            } => {
                writeln!(out, "  KEDA would get the error {code}:")?;
                print_lines([error].into_iter().chain(fallback), out)
            }
            Self::Refused { refused } => {
                writeln!(out, "  Kubernetes or KEDA would refuse it:")?;
                print_lines(refused, out)
            }
            Self::Unknown { unknown } => {
                writeln!(out, "  It cannot be said what KEDA would be told:")?;
                print_lines(unknown, out)
            }
        }
    }
}

fn print_lines<'a>(texts: impl IntoIterator<Item = &'a String>, out: &mut String) -> fmt::Result {
    for line in texts.into_iter().flat_map(|text| text.lines()) {
        writeln!(out, "    {line}")?;
    }
    writeln!(out)
}

impl Permission {
    fn print(&self, out: &mut String) -> fmt::Result {
        let Self {
            action,
            ok,
            error,
            // The error has it.
            statement: _,
        } = self;
        writeln!(out, "  {} {action}", if *ok { "✓" } else { "✗" })?;
        if let Some(error) = error {
            writeln!(out, "      {error}")?;
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
