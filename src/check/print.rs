//! The report for people.

use std::fmt::{self, Write as _};

use super::report::{Permission, Report, ShardReport, TriggerReport};

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
        writeln!(
            out,
            "{} ({}), namespace {}",
            self.place, self.kind, self.namespace
        )?;
        if self.kind == "aws-kinesis-stream" {
            writeln!(
                out,
                "  as it would read with type external and scalerAddress"
            )?;
        }
        for key in &self.keys {
            let mark = if key.default { " (default)" } else { "" };
            writeln!(out, "  {:<24} {}{mark}", key.key, key.value)?;
        }
        for key in &self.ignored {
            let why = if key.ends_with("FromEnv") {
                "ignored; KEDA puts the variable's value in its place"
            } else {
                "ignored"
            };
            writeln!(out, "  {key:<24} {why}")?;
        }
        if let Some(identity) = &self.identity {
            writeln!(out, "  asks as                  {identity}")?;
        }
        for permission in &self.permissions {
            permission.print(out)?;
        }
        if let Some(table) = &self.lease_table {
            writeln!(out, "  lease table: {table}")?;
        }
        for shard in self.shards.iter().take(MOST_SHARDS) {
            shard.print(out)?;
        }
        if self.shards.len() > MOST_SHARDS {
            let more = self.shards.len() - MOST_SHARDS;
            writeln!(out, "    and {more} more: see -o json")?;
        }
        match &self.told {
            Ok(told) => {
                let active = if told.active { "active" } else { "not active" };
                writeln!(
                    out,
                    "  KEDA would be told: {} = {}, target {}, {active}\n    {}\n",
                    told.metric_name, told.value, told.target, told.reason
                )
            }
            Err(error) => {
                writeln!(out, "  KEDA would get the error {}:", error.code)?;
                for line in error.message.lines() {
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

impl ShardReport {
    fn print(&self, out: &mut String) -> fmt::Result {
        let Self {
            id,
            parents,
            closed,
            state,
            owner,
            checkpoint,
            unread_for_seconds,
            why,
        } = self;
        let open = if *closed { "closed" } else { "open" };
        write!(out, "    {id} {open}, {state}")?;
        if !parents.is_empty() {
            write!(out, "; child of {}", parents.join(", "))?;
        }
        match (owner, checkpoint) {
            (Some(owner), Some(checkpoint)) => write!(out, "; {owner} at {checkpoint}")?,
            (None, Some(checkpoint)) => write!(out, "; nobody's, at {checkpoint}")?,
            (_, None) => write!(out, "; no lease")?,
        }
        if let Some(age) = unread_for_seconds {
            write!(out, "; unread for {age:.0} s")?;
        }
        if let Some(why) = why {
            write!(out, " ({why})")?;
        }
        writeln!(out)
    }
}
